/** A client of the service that is not ours: @grpc/grpc-js, which reads the .proto files itself. */
import { fileURLToPath } from "node:url";
import { Client, type ClientReadableStream, credentials, Metadata, type StatusObject } from "@grpc/grpc-js";
import { loadSync, type MethodDefinition } from "@grpc/proto-loader";

const definitions = loadSync(["gomote.proto", "barnraiser.proto"], {
  includeDirs: [fileURLToPath(new URL("../../wire/gomote", import.meta.url))],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
});

/** How a call ended. `code` is the number of its status, as on the wire. */
export interface Ended {
  readonly code: number;
  readonly details: string;
  /** barnraiser.CommandExit of a command that failed. */
  readonly exit?: { readonly exit_status: number; readonly process_state: string };
}

export interface Streaming<T> {
  /** The messages that have come so far. */
  readonly messages: T[];
  readonly ended: Promise<Ended>;
  /** Resolves when there are `count` messages; rejects when the call ends before. */
  readonly have: (count: number) => Promise<void>;
  /** `pause` stops reading, and `resume` goes on. */
  readonly pause: () => void;
  readonly resume: () => void;
  readonly cancel: () => void;
}

export const OK = 0;

// biome-ignore lint/complexity/noBannedTypes: what a message holds, the definitions know
type Message = {};

export class RpcClient implements Disposable {
  readonly #client: Client;
  readonly #token: string | undefined;
  readonly #fields: Readonly<Record<string, string>>;

  /** `agent` is what it says first in User-Agent; `fields` are headers of each call. */
  constructor(port: number, token: string | undefined, agent = "", fields: Readonly<Record<string, string>> = {}) {
    this.#fields = fields;
    const options = { "grpc.max_receive_message_length": 4 * 1024 * 1024, "grpc.primary_user_agent": agent };
    const secure = credentials.createSsl(null, null, null, { rejectUnauthorized: false });
    this.#client = new Client(`localhost:${port}`, secure, options);
    this.#token = token;
  }

  /** Makes a call. Resolves with the answer, or with how the call failed. */
  call<T extends Message>(method: string, request: Message = {}, service = "protos.GomoteService"): Promise<T | Ended> {
    const { path, requestSerialize, responseDeserialize } = definitionOf(service, method);
    return new Promise((resolve) => {
      this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        this.#metadata(),
        (error, answer) => resolve(error ? endOf(error) : (answer as T)),
      );
    });
  }

  stream<T extends Message>(method: string, request: Message = {}, service = "protos.GomoteService"): Streaming<T> {
    const { path, requestSerialize, responseDeserialize } = definitionOf(service, method);
    const call = this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      this.#metadata(),
    ) as ClientReadableStream<T>;
    const messages: T[] = [];
    let changed: () => void = () => {};
    let over: Ended | undefined;
    const { promise: ended, resolve } = Promise.withResolvers<Ended>();
    call.on("data", (message: T) => {
      messages.push(message);
      changed();
    });
    call.on("error", () => {}); // `status` says the same
    call.on("status", (status: StatusObject) => {
      over = endOf(status);
      resolve(over);
      changed();
    });
    const have = async (count: number): Promise<void> => {
      while (messages.length < count) {
        if (over) throw new Error(`The call ended with ${over.code} ${over.details} after ${messages.length} messages`);
        await new Promise<void>((told) => {
          changed = told;
        });
      }
    };
    return {
      messages,
      ended,
      have,
      pause: () => call.pause(),
      resume: () => call.resume(),
      cancel: () => call.cancel(),
    };
  }

  /** Sends `requests`. Resolves with the answer, or with how the call failed. */
  upload<T extends Message>(
    method: string,
    requests: readonly Message[],
    service: string,
    end: "ends" | "no end" = "ends",
  ): Promise<T | Ended> {
    const { path, requestSerialize, responseDeserialize } = definitionOf(service, method);
    return new Promise((resolve) => {
      const call = this.#client.makeClientStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        this.#metadata(),
        (error, answer) => resolve(error ? endOf(error) : (answer as T)),
      );
      call.on("error", () => {}); // the answer says the same
      for (const request of requests) call.write(request);
      if (end === "ends") call.end();
    });
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }

  #metadata(): Metadata {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(this.#fields)) metadata.set(name, value);
    if (this.#token !== undefined) metadata.set("authorization", `Bearer ${this.#token}`);
    return metadata;
  }
}

function definitionOf(service: string, method: string): MethodDefinition<object, object> {
  const found = definitions[service];
  const definition = found && !("format" in found) ? found[method] : undefined;
  if (!definition) throw new Error(`There is no ${service}/${method}`);
  return definition;
}

function endOf({ code, details, metadata }: StatusObject): Ended {
  const [status] = metadata.get("grpc-status-details-bin");
  const exit = status instanceof Buffer ? exitOf(status) : undefined;
  // The library does not decode characters that have a meaning in a URL.
  return { code, details: decodeURIComponent(details), ...(exit && { exit }) };
}

/** Reads google.rpc.Status { code = 1; message = 2; details = 3 Any { type_url = 1; value = 2 } } by hand. */
function exitOf(status: Buffer): Ended["exit"] {
  for (const any of fieldsOf(status, 3)) {
    const [type] = fieldsOf(any, 1);
    const [value = Buffer.alloc(0)] = fieldsOf(any, 2);
    if (type?.toString() !== "type.googleapis.com/barnraiser.CommandExit") continue;
    const message = definitions["barnraiser.CommandExit"];
    if (!message || !("format" in message)) throw new Error("There is no barnraiser.CommandExit");
    const numbers = varints(value);
    return { exit_status: numbers.get(1) ?? 0, process_state: fieldsOf(value, 2)[0]?.toString() ?? "" };
  }
  return undefined;
}

/** The length-delimited fields of this number. */
function fieldsOf(bytes: Buffer, wanted: number): Buffer[] {
  const found: Buffer[] = [];
  walk(bytes, (number, value) => {
    if (number === wanted && value instanceof Buffer) found.push(value);
  });
  return found;
}

function varints(bytes: Buffer): Map<number, number> {
  const found = new Map<number, number>();
  walk(bytes, (number, value) => {
    if (typeof value === "number") found.set(number, value);
  });
  return found;
}

function walk(bytes: Buffer, each: (field: number, value: number | Buffer) => void): void {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] ?? 0;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const value = varint();
    if (key % 8 === 0) each(key >> 3, value);
    else {
      each(key >> 3, bytes.subarray(at, at + value));
      at += value;
    }
  }
}
