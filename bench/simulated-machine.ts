/**
 * One machine as our own agent plays it, without doing any work: it registers, answers keep-alives, hands over connections
 * and says yes to every call of the buildlet's API.
 */
import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { connect, type SecureContext } from "node:tls";
import { BUILDLET_VERSION } from "../src/wire/buildlet-api/buildlet-api.ts";
import { RESUME_VERSION } from "../src/wire/buildlet-api/execution.ts";
import { ControlLineReader, encodeControlLine } from "../src/wire/revdial/control-line.ts";
import {
  encodeRequestHead,
  fieldValues,
  type HeaderField,
  type ResponseHead,
  responseHeadReader,
} from "../src/wire/revdial/http-head.ts";
import {
  encodeAgentInfo,
  PONG_HEADER,
  REGISTRATION_HEADERS,
  REVDIAL_VERSION,
  REVERSE_PATH,
} from "../src/wire/revdial/registration.ts";
import { type Answer, respond } from "./request-responder.ts";

export interface Farm {
  readonly host: string;
  readonly port: number;
  readonly secureContext: SecureContext;
  readonly hostType: string;
  readonly key: string;
  /** SHA-256 of the agent program that the coordinator serves, so that it does not ask for an update. */
  readonly digest: string;
}

export interface MachineEvents {
  /** The coordinator took us in; counted once per connection. */
  joined(): void;
  /** The connection that `joined` spoke of is gone. */
  left(): void;
  /** A dial did not become a connection. */
  failed(reason: string): void;
}

const PONG = Buffer.from(encodeControlLine({ command: "pong" }));

export class SimulatedMachine {
  readonly #farm: Farm;
  readonly #name: string;
  readonly #answer: Answer;
  readonly #events: MachineEvents;
  readonly #sockets = new Set<Socket>();
  /** It is one process, whatever becomes of its connections. */
  readonly #instance = randomBytes(16).toString("hex");

  constructor(farm: Farm, name: string, answer: Answer, events: MachineEvents) {
    this.#farm = farm;
    this.#name = name;
    this.#answer = answer;
    this.#events = events;
  }

  /** Dials and registers. */
  join(): void {
    const { hostType, key, digest } = this.#farm;
    const names = REGISTRATION_HEADERS;
    const fields: HeaderField[] = [
      ["Host", ""],
      ["User-Agent", "Go-http-client/1.1"],
      [names.hostname, this.#name],
      [names.key, key],
      [names.version, String(BUILDLET_VERSION)],
      [names.hostType, hostType],
      [names.revdialVersion, REVDIAL_VERSION],
      [
        names.agent,
        encodeAgentInfo({ digest, platform: "simulated", instance: this.#instance, resume: RESUME_VERSION }),
      ],
    ];
    let joined = false;
    let failure = "closed before an answer came";
    const socket = this.#dial(REVERSE_PATH, fields, (head, rest) => {
      if (head.status !== 101) {
        failure = `answered ${head.status} ${head.reason}`;
        socket.destroy();
        return;
      }
      joined = true;
      this.#events.joined();
      this.#control(socket, fieldValues(head, PONG_HEADER)[0] === "1", rest);
    });
    socket.once("error", (error) => {
      failure = error.message;
    });
    socket.once("close", () => {
      for (const other of this.#sockets) other.destroy();
      if (joined) this.#events.left();
      else this.#events.failed(failure);
    });
  }

  /** Hangs up, all connections at once. */
  drop(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #control(socket: Socket, pong: boolean, first: Uint8Array): void {
    const reader = new ControlLineReader();
    function lines(this: SimulatedMachine, chunk: Uint8Array): void {
      for (const line of reader.push(chunk)) {
        if (line.command === "keep-alive" && pong) socket.write(PONG);
        if (line.command === "conn-ready" && line.connPath) this.#pickUp(line.connPath, socket);
      }
    }
    socket.on("data", lines.bind(this));
    if (first.length > 0) lines.call(this, first);
  }

  #pickUp(path: string, control: Socket): void {
    const fields: HeaderField[] = [
      ["Host", ""],
      ["User-Agent", "Go-http-client/1.1"],
    ];
    const socket = this.#dial(path, fields, (head, rest) => {
      if (head.status === 101) respond(socket, rest, this.#answer);
      else {
        control.write(encodeControlLine({ command: "pickup-failed", connPath: path, err: `${head.status}` }));
        socket.destroy();
      }
    });
    socket.on("error", () => {}); // the coordinator's own limits see to it
  }

  /** A TLS connection with one request on it; `answered` is called with the head of the response. */
  #dial(
    target: string,
    fields: readonly HeaderField[],
    answered: (head: ResponseHead, rest: Uint8Array) => void,
  ): Socket {
    const { host, port, secureContext } = this.#farm;
    const socket = connect({ host, port, secureContext });
    socket.setNoDelay(true);
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    socket.once("secureConnect", () => socket.write(encodeRequestHead("GET", target, fields)));
    const reader = responseHeadReader();
    socket.on("data", function head(chunk: Uint8Array) {
      const read = reader.push(chunk);
      if (!read) return;
      socket.off("data", head);
      answered(read.head, read.rest);
    });
    return socket;
  }
}
