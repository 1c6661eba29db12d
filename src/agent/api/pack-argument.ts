/**
 * The only argument of a buildlet that packs a folder and does nothing else (pack-beside.ts). It has a file of its own,
 * so that an idle agent need not load that one.
 */
export const PACK_ARGUMENT = "-pack-beside";
