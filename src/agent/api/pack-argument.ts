/** The only argument of a buildlet that is to pack a folder and nothing else (pack-beside.ts); apart, so that an idle agent need not load that. */
export const PACK_ARGUMENT = "-pack-beside";
