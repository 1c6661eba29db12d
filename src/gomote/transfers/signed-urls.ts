/**
 * Names of transfers, and what lets a person use one: a signature that every coordinator of the farm makes alike, from
 * the master key.
 *
 *   /gomote/files/                                      POST a form: key, owner, expires, signature, then file
 *   /gomote/files/KEY                                   a posted file, as calls of its owner name it; no GET
 *   /gomote/files/KEY/NAME?expires=TIME&signature=MAC   GET a file that a machine gave
 *
 * MAC is an HMAC-SHA256 over what may be done, with which key, for whom and until when. No other path of the farm has
 * this form. So such a URL is one of the farm's own, by whatever name it reaches the farm, and its key alone says what
 * it holds.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { FarmError } from "../../farm/errors.ts";
import { type EpochMs, epochMs, type PersonId, personId } from "../../farm/ids.ts";

export const TRANSFERS_PATH = "/gomote/files/";
/** The last field of the form. */
export const FILE_FIELD = "file";
const KEY = "[0-9a-f]{32}";
const OWN = new RegExp(`^${TRANSFERS_PATH}(${KEY})(?:/[^/]+)?$`);
const DOWNLOAD = new RegExp(`^${TRANSFERS_PATH}(${KEY})/[^/]+$`);

export function newTransferId(): string {
  return randomBytes(16).toString("hex");
}

/** The key in a URL of the farm's own; undefined: the URL leads elsewhere. */
export function ownKeyOf(url: URL): string | undefined {
  return OWN.exec(url.pathname)?.[1];
}

export class SignedUrls {
  readonly #key: Buffer;

  constructor(masterKey: string) {
    this.#key = createHmac("sha256", masterKey).update("barnraiser transfer 1").digest();
  }

  /** Form fields. Anybody who has them may post one file, which is `owner`'s. */
  uploadFields(
    id: string,
    owner: PersonId,
    expires: EpochMs,
  ): Readonly<Record<"key" | "owner" | "expires" | "signature", string>> {
    const signature = this.#mac("upload", id, owner, String(expires));
    return { key: id, owner, expires: String(expires), signature };
  }

  /**
   * The upload that these fields allow. Throws FarmError that says which field is missing, or why they allow nothing.
   */
  readUpload(fields: ReadonlyMap<string, string>, now: EpochMs): { readonly id: string; readonly owner: PersonId } {
    const field = (name: string): string => {
      const value = fields.get(name);
      if (value !== undefined) return value;
      const text = `Cannot upload: the field ${name} is missing; all fields have to come before "${FILE_FIELD}"`;
      throw new FarmError("bad-request", text);
    };
    const [id, owner, expires, signature] = [field("key"), field("owner"), field("expires"), field("signature")];
    this.#check(signature, ["upload", id, owner, expires], expires, now, "upload");
    return { id, owner: personId(owner) };
  }

  /** A URL at which anybody who has it can fetch a file. */
  download(origin: string, id: string, fileName: string, expires: EpochMs): string {
    const query = new URLSearchParams({
      expires: String(expires),
      signature: this.#mac("download", id, String(expires)),
    });
    return `${origin}${TRANSFERS_PATH}${id}/${encodeURIComponent(fileName)}?${query}`;
  }

  /**
   * The key of the file that `target`, a path with its query, lets one fetch. Throws FarmError that says why it does
   * not.
   */
  readDownload(target: string, now: EpochMs): string {
    const { pathname, searchParams } = new URL(target, "https://farm");
    const [, id] = DOWNLOAD.exec(pathname) ?? [];
    if (id === undefined) throw new FarmError("not-found", "There is no such file");
    const expires = searchParams.get("expires") ?? "";
    this.#check(searchParams.get("signature") ?? "", ["download", id, expires], expires, now, "download");
    return id;
  }

  #check(given: string, signed: readonly string[], expires: string, now: EpochMs, what: string): void {
    const [mac, right] = [Buffer.from(given), Buffer.from(this.#mac(...signed))];
    if (mac.length !== right.length || !timingSafeEqual(mac, right))
      throw new FarmError("forbidden", `Cannot ${what}: this farm did not sign the URL, or it was changed since`);
    if (epochMs(Number(expires)) < now)
      throw new FarmError(
        "gone",
        `Cannot ${what}: the URL expired at ${new Date(Number(expires)).toISOString()}; ask for another`,
      );
  }

  #mac(...parts: readonly string[]): string {
    return createHmac("sha256", this.#key).update(JSON.stringify(parts)).digest("hex");
  }
}
