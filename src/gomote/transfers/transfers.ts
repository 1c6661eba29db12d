/**
 * Files on their way between people and the machines that they have borrowed: a folder in which everything has an
 * owner, and goes away by itself.
 *
 *   upload     a person gets a form; the file that is posted with it, once, is theirs, to be put on a machine by calls
 *              of theirs
 *   download   a file that a machine gives is kept; anybody who has its URL fetches it, also while it is still arriving
 *
 *   arriving -all of it came, within its limits-> kept -EXPIRY-> nothing is left
 *   arriving -anything else-> nothing is left
 *
 * A signed URL is valid for EXPIRY. The row (store/transfers.ts) is there before the first byte. The bytes lie in the
 * folder of the coordinator at which they arrived, where other coordinators ask for them (peers/peer-blobs.ts). Nothing
 * is ever whole in memory. retention/transfers.ts deletes what has expired.
 */
import { randomBytes } from "node:crypto";
import { pipeline, type Readable } from "node:stream";
import type { Blobs, Written } from "../../blobs/blobs.ts";
import type { Growing } from "../../blobs/growing.ts";
import type { FarmConfig } from "../../config/effective.ts";
import type { Clock } from "../../farm/clock.ts";
import { FarmError } from "../../farm/errors.ts";
import { type CoordinatorId, type EpochMs, type Ms, minutes, type PersonId, plus } from "../../farm/ids.ts";
import type { Person } from "../../farm/person.ts";
import type { Sql } from "../../store/sql.ts";
import {
  findTransfer,
  keptBytes,
  TRANSFER_BLOBS,
  type Transfer,
  transferBegan,
  transferDropped,
  transferKept,
} from "../../store/transfers.ts";
import { FetchTurns } from "./fetch-turns.ts";
import { guardedFetch, type World, webUrl } from "./guarded-fetch.ts";
import { LONGEST, Meter } from "./meter.ts";
import { Room, type Share } from "./room.ts";
import { newTransferId, ownKeyOf, SignedUrls, TRANSFERS_PATH } from "./signed-urls.ts";
import type { UploadForm } from "./upload-form.ts";

export const EXPIRY: Ms = minutes(10);

export interface TransfersDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly coordinator: CoordinatorId;
  readonly blobs: Pick<Blobs, "begin" | "get" | "delete" | "free">;
  /**
   * The bytes of a blob that another coordinator has, most likely `holder`. Throws FarmError `not-found`,
   * `unavailable`.
   */
  readonly elsewhere: (key: string, holder: CoordinatorId, signal: AbortSignal) => Promise<Readable>;
  readonly masterKey: string;
  readonly config: () => Pick<FarmConfig, "gomote">;
  readonly world: World;
}

/** A form with which a file can be posted. */
export interface UploadPlace {
  readonly url: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly objectName: string;
}

/** A file that can be fetched at `url`, while it is still arriving, too. */
export interface Kept {
  readonly url: string;
  /** Resolves when all of it is there; rejects with the reason why it never will be. */
  readonly whole: Promise<void>;
}

interface Arriving {
  readonly growing: Growing;
  readonly whole: Promise<void>;
}

export class Transfers {
  readonly #deps: TransfersDeps;
  readonly #urls: SignedUrls;
  readonly #room: Room;
  readonly #fetches = new FetchTurns();
  /** Key of a blob -> its file, while it arrives. */
  readonly #arriving = new Map<string, Arriving>();

  constructor(deps: TransfersDeps) {
    this.#deps = deps;
    this.#urls = new SignedUrls(deps.masterKey);
    this.#room = new Room({
      free: () => deps.blobs.free(),
      kept: (owner) => keptBytes(deps.sql, owner, deps.clock.now()),
      limitBytes: () => deps.config().gomote.transferLimitBytes,
      perPerson: () => deps.config().gomote.perPerson,
    });
  }

  /** A form for one file of `person`. `origin` is the farm, by the name under which the person reaches it. */
  async upload(person: Person, origin: string): Promise<UploadPlace> {
    const id = newTransferId();
    const fields = this.#urls.uploadFields(id, person.id, this.#expiry());
    return { url: `${origin}${TRANSFERS_PATH}`, fields, objectName: id };
  }

  /** Takes a form that is posted. Throws FarmError that says why its file was not kept. */
  async receive({ fields, file, end }: UploadForm): Promise<void> {
    const { id, owner } = this.#urls.readUpload(fields, this.#deps.clock.now());
    const arriving = await this.#arrive({ id, owner, fileName: null }, file, "the upload", end);
    await arriving.whole;
  }

  /**
   * Keeps what a machine gives, for anybody who has the URL. Resolves when there is something to fetch; throws when
   * there never will be.
   */
  async keep(person: Person, origin: string, fileName: string, body: Readable): Promise<Kept> {
    const id = newTransferId();
    const { growing, whole } = await this.#arrive({ id, owner: person.id, fileName }, body, fileName);
    await growing.begun();
    return { url: this.#urls.download(origin, id, fileName, this.#expiry()), whole };
  }

  /**
   * The file that `target`, a path of the farm with its query, lets one fetch. Throws FarmError that says why it does
   * not.
   */
  async fetch(target: string, signal: AbortSignal): Promise<{ readonly transfer: Transfer; readonly body: Readable }> {
    const transfer = await this.#find(this.#urls.readDownload(target, this.#deps.clock.now()));
    return { transfer, body: await this.#read(transfer, signal) };
  }

  /**
   * What a URL holds: a file of `person`'s own, or something in the world that the configuration lets one fetch. To be
   * read or destroyed.
   */
  async open(person: Person, given: string, signal: AbortSignal): Promise<Readable> {
    const { clock, config, world } = this.#deps;
    const { fetch, fetchPorts: ports, transferLimitBytes: limitBytes } = config().gomote;
    const id = ownKeyOf(webUrl(given));
    if (id !== undefined) return await this.#read(await this.#owned(person.id, id), signal);
    if (fetch === "nothing") {
      const text =
        "This farm fetches nothing from elsewhere (gomote.fetch in its configuration): upload the file instead";
      throw new FarmError("forbidden", text);
    }
    const over = await this.#fetches.take(person.id, signal);
    try {
      return (await guardedFetch(given, { clock, world, limitBytes, ports }, signal)).once("close", over);
    } catch (error) {
      over();
      throw error;
    }
  }

  /** The bytes of a blob of this coordinator, also while they are still arriving. Throws FarmError `not-found`. */
  async blob(key: string): Promise<Readable> {
    const arriving = this.#arriving.get(key);
    if (!arriving) return await this.#deps.blobs.get(key);
    return await arriving.growing.open().catch(async () => {
      await arriving.whole;
      return await this.#deps.blobs.get(key);
    });
  }

  async #owned(owner: PersonId, id: string): Promise<Transfer> {
    const transfer = await this.#find(id);
    if (transfer.owner !== owner)
      throw new FarmError("forbidden", `Cannot use ${id}: it was uploaded by somebody else`);
    if (transfer.fileName === null && transfer.bytes === null)
      throw new FarmError("not-found", `Cannot use ${id}: its upload has not ended`);
    return transfer;
  }

  async #find(id: string): Promise<Transfer> {
    const transfer = await findTransfer(this.#deps.sql, id);
    if (!transfer) throw new FarmError("not-found", `There is no file ${id}: it never came whole, or it has expired`);
    if (transfer.expiresAt < this.#deps.clock.now())
      throw new FarmError("gone", `The file ${id} expired at ${new Date(transfer.expiresAt).toISOString()}`);
    return transfer;
  }

  async #read({ id, coordinator }: Transfer, signal: AbortSignal): Promise<Readable> {
    const key = keyOf(id);
    try {
      return await this.blob(key);
    } catch (error) {
      if (!(error instanceof FarmError && error.code === "not-found")) throw error;
      return await this.#deps.elsewhere(key, coordinator, signal);
    }
  }

  /** Begins to write `body`. The file is kept when `body` has ended and `approved` has resolved. */
  async #arrive(
    what: Pick<Transfer, "id" | "owner" | "fileName">,
    body: Readable,
    words: string,
    approved?: Promise<void>,
  ): Promise<Arriving> {
    const { sql, clock, blobs, coordinator, config } = this.#deps;
    const room = this.#room;
    const { id } = what;
    const key = keyOf(id);
    const arrival = randomBytes(16).toString("hex");
    const row = { ...what, coordinator, expiresAt: plus(clock.now(), LONGEST) };
    const share = await room.begin(what.owner).catch((error: unknown) => {
      body.destroy();
      throw error;
    });
    try {
      if (!(await transferBegan(sql, row, arrival)))
        throw new FarmError(
          "conflict",
          "Cannot upload: this form was used before, and is good for one file only; ask for another",
        );
    } catch (error) {
      room.end(share);
      body.destroy();
      throw error;
    }
    const limitBytes = config().gomote.transferLimitBytes;
    const meter = new Meter({ clock, what: words, limitBytes, admit: (bytes) => room.admit(share, bytes) });
    pipeline(body, meter, () => {}); // its reader hears how either ends
    const { growing, written } = blobs.begin(
      () => key,
      approvedOf(meter, (bytes) => room.wrote(share, bytes), approved),
    );
    const whole = this.#kept(share, id, key, arrival, written).finally(() => {
      this.#arriving.delete(key);
      room.end(share);
    });
    whole.catch(() => {}); // the code that waits for it gets the error
    const arriving = { growing, whole };
    this.#arriving.set(key, arriving);
    return arriving;
  }

  async #kept(share: Share, id: string, key: string, arrival: string, written: Promise<Written>): Promise<void> {
    const { sql, blobs } = this.#deps;
    try {
      const { bytes } = await written;
      if (await this.#room.keep(share, () => transferKept(sql, { id, bytes, expiresAt: this.#expiry() }))) return;
      throw new FarmError("gone", `The file ${id} was deleted while it arrived`);
    } catch (error) {
      await blobs.delete(key);
      // When the database is away too, the row expires.
      await transferDropped(sql, id, arrival).catch(() => {});
      throw error;
    }
  }

  #expiry(): EpochMs {
    return plus(this.#deps.clock.now(), EXPIRY);
  }
}

/** The chunks of `body`. The writer asks for the next one when it has written the one before. */
async function* approvedOf(
  body: AsyncIterable<Uint8Array>,
  wrote: (bytes: number) => void,
  approved: Promise<void> | undefined,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    yield chunk;
    wrote(chunk.length);
  }
  await approved;
}

function keyOf(id: string): string {
  return `${TRANSFER_BLOBS}/${id}`;
}
