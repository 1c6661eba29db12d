/** The HTTP application: `fetch` for whoever has a Request, `listener` for Node's HTTP/1.1 and HTTP/2 servers. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { WebDeps } from "./deps.ts";

export interface WebApp extends AsyncDisposable {
  readonly fetch: (request: Request) => Response | Promise<Response>;
  readonly listener: (request: IncomingMessage | Http2ServerRequest, response: ServerResponse | Http2ServerResponse) => void;
}
export type { WebDeps };
