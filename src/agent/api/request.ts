/** The parts of a request, as the API's handlers need them. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { isRelPath } from "../../wire/buildlet-api/rel-path.ts";
import { ApiError } from "./api-error.ts";

/** The largest form. Forms are commands and lists of paths. */
const FORM_LIMIT = 10 * 1024 * 1024;

export interface Target {
  readonly path: string;
  readonly query: URLSearchParams;
}

/** One request of a client: what its handler reads, and where it writes the answer. */
export interface Call {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly query: URLSearchParams;
}

/** Path and query of the request line. The Host header may be empty, so URL is of no use here. */
export function targetOf(request: IncomingMessage): Target {
  const url = request.url ?? "/";
  const mark = url.indexOf("?");
  return {
    path: mark === -1 ? url : url.slice(0, mark),
    query: new URLSearchParams(mark === -1 ? "" : url.slice(mark + 1)),
  };
}

/** Form fields: those of the body first, then those of the query. */
export async function readForm(request: IncomingMessage, query: URLSearchParams): Promise<URLSearchParams> {
  const form = new URLSearchParams();
  if ((request.headers["content-type"] ?? "").startsWith("application/x-www-form-urlencoded")) {
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of request) {
      length += chunk.length;
      if (length > FORM_LIMIT) throw new ApiError(413, `Cannot read a form of more than ${FORM_LIMIT} bytes`);
      chunks.push(chunk);
    }
    for (const [key, value] of new URLSearchParams(Buffer.concat(chunks).toString("utf8"))) form.append(key, value);
  }
  for (const [key, value] of query) form.append(key, value);
  return form;
}

/** Refuses with 400 a path that breaks the rel rule, naming the parameter. */
export function checkRelPath(parameter: string, path: string, windows: boolean): string {
  if (!isRelPath(path, windows)) {
    throw new ApiError(
      400,
      `Bad ${parameter} ${JSON.stringify(path)}: want a relative path that stays in the work dir`,
    );
  }
  return path;
}
