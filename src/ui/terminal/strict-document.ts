/**
 * The document as xterm sees it. xterm writes style elements and style attributes, which our Content-Security-Policy
 * refuses, and rightly. Here the same text becomes a constructed sheet, or single properties: a policy allows these,
 * since no markup can make them.
 *
 * xterm makes the cells of a row as spans with the page's own document, whatever it is given. So the way in which a
 * span takes a style attribute is changed for the whole page: it means the same as before, and is not refused.
 */

export interface StrictDocument {
  readonly document: Document;
  /**
   * Elements that are made during `work` are made as described above, also by parts of xterm that use the page's own
   * document.
   */
  readonly during: (work: () => void) => void;
  readonly drop: () => void;
}

export function strictDocument(real: Document): StrictDocument {
  HTMLSpanElement.prototype.setAttribute = setSpanAttribute;
  const make = Document.prototype.createElement.bind(real);
  const sheets = new Set<CSSStyleSheet>();
  const createElement = (name: string): HTMLElement => {
    // An empty style element is refused too; this one is inert.
    const element = make(name === "style" ? "template" : name);
    if (name === "style") {
      const sheet = new CSSStyleSheet();
      sheets.add(sheet);
      real.adoptedStyleSheets = [...real.adoptedStyleSheets, sheet];
      Object.defineProperty(element, "textContent", { set: (text: string) => void sheet.replaceSync(text) });
    }
    return element;
  };
  const document = new Proxy(real, {
    get(target, key) {
      if (key === "createElement") return createElement;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return {
    document,
    during: (work) => {
      Object.defineProperty(real, "createElement", { value: createElement, configurable: true });
      try {
        work();
      } finally {
        Reflect.deleteProperty(real, "createElement");
      }
    },
    drop: () => {
      real.adoptedStyleSheets = real.adoptedStyleSheets.filter((sheet) => !sheets.has(sheet));
    },
  };
}

function setSpanAttribute(this: HTMLSpanElement, name: string, value: string): void {
  if (name === "style") this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
}
