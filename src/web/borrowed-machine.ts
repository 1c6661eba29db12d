/**
 * One request of a browser that works with the machine of an instance: how long the machine is held for it, and how
 * bytes go in and out.
 *
 * The machine is in use until the browser has taken the whole answer, or has left. A machine that is connected to
 * another coordinator is worked with over there (pass-on.ts).
 */
import { pipeline, Readable } from "node:stream";
import { FarmError } from "../farm/errors.ts";
import type { Person } from "../farm/person.ts";
import type { HeldInstance } from "../gomote/holdings.ts";
import { HeldElsewhere } from "../gomote/instances.ts";
import { Meter, type MeterOptions } from "../gomote/transfers/meter.ts";
import type { Lending, WebDeps } from "./deps.ts";
import { type Ctx, OWN } from "./http.ts";
import { passOn } from "./pass-on.ts";

/**
 * Answers with the machine of an instance. `signal` aborts when the machine is no longer in use: no call to it outlives
 * the answer.
 */
export type MachineWork = (held: HeldInstance, signal: AbortSignal) => Promise<Response>;

/**
 * Does `work` with the machine of the instance that the address names (`:id`), here or at the coordinator that it is
 * connected to.
 */
export async function withMachine(c: Ctx, lending: Lending, person: Person, work: MachineWork): Promise<Response> {
  try {
    const held = await lending.instances.held(person, c.req.param("id") ?? "");
    const left = new AbortController();
    using kept = new DisposableStack();
    kept.defer(() => left.abort(new FarmError("canceled", "Whoever asked for it has it, or left")));
    kept.use(lending.instances.keep(held.instance));
    const response = await work(held, AbortSignal.any([c.req.raw.signal, held.over, left.signal]));
    if (response.body === null) return response;
    if (c.req.method === "HEAD") {
      await response.body.cancel();
      return response;
    }
    const inUse = kept.move();
    return new Response(
      whileRead(response.body, () => inUse.dispose()),
      response,
    );
  } catch (error) {
    if (error instanceof HeldElsewhere) return await passOn(c, lending, error.coordinator);
    throw error;
  }
}

/** The body of a request, metered, with the size limit of a file. */
export function bodyOf(c: Ctx, what: string, { clock, config }: Pick<WebDeps, "clock" | "config">): Meter {
  const { body } = c.req.raw;
  const bytes = body === null ? Readable.from([]) : Readable.fromWeb(body as never);
  return metered(bytes, { clock, what, limitBytes: config().gomote.transferLimitBytes });
}

/** A file that the browser saves under `name`. */
export function attachment(body: Readable, type: string, name: string): Response {
  const disposition = `attachment; filename*=UTF-8''${encodeURIComponent(name.toWellFormed())}`;
  const headers = { ...OWN, "Content-Type": type, "Content-Disposition": disposition };
  return new Response(Readable.toWeb(body) as ReadableStream<Uint8Array>, { headers });
}

export function metered(bytes: Readable, options: MeterOptions): Meter {
  const meter = new Meter(options);
  pipeline(bytes, meter, () => {}); // the meter reports an error of either
  return meter;
}

/** `body`; calls `ended` once: when it was read to its end, broke (also when nobody reads it), or was canceled. */
function whileRead(body: ReadableStream<Uint8Array>, ended: () => void): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream({
    start(controller) {
      reader.closed.catch((error: unknown) => controller.error(error)).finally(ended);
    },
    async pull(controller) {
      const piece = await reader.read();
      if (piece.done) controller.close();
      else controller.enqueue(piece.value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
}
