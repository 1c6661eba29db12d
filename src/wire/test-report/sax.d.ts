/** As much of `sax` as is used here: the published types are of an older version. */
declare module "sax" {
  export interface SAXParser {
    readonly line: number;
    onerror: (error: Error) => void;
    ondoctype: () => void;
    onsgmldeclaration: () => void;
    onopentagstart: () => void;
    onattribute: () => void;
    onopentag: (tag: { readonly name: string; readonly attributes: Readonly<Record<string, string>> }) => void;
    onclosetag: () => void;
    ontext: (text: string) => void;
    oncdata: (text: string) => void;
    write(text: string): void;
    close(): void;
  }
  const sax: {
    /** How many characters a token may have. One for all parsers. */
    MAX_BUFFER_LENGTH: number;
    parser(strict: boolean, options: { readonly strictEntities: boolean }): SAXParser;
  };
  export default sax;
}
