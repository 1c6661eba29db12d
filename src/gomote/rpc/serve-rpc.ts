/**
 * The service beside the pages, on the TLS port: whoever asks for one of its paths is answered by it, everybody else as before. Only gRPC is
 * spoken, so a page of somebody else's in a browser can call nothing here.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Gomote } from "../../wire/gomote/gen/barnraiser_pb.ts";
import { GomoteService } from "../../wire/gomote/gen/gomote_pb.ts";
import { type CallsDeps, calls } from "./calls.ts";

/** Of one message of a caller. */
const MESSAGE_LIMIT = 4 * 1024 * 1024;

const PATHS: readonly string[] = [GomoteService, Gomote].map(({ typeName }) => `/${typeName}/`);

type Listener = (request: IncomingMessage | Http2ServerRequest, response: ServerResponse | Http2ServerResponse) => void;

export interface RpcOptions extends CallsDeps {
  readonly service: ServiceImpl<typeof GomoteService>;
  readonly own: ServiceImpl<typeof Gomote>;
  /** Aborts when the coordinator stops: then nobody is kept waiting. */
  readonly stopping: AbortSignal;
}

export function serveRpc({ service, own, stopping, ...deps }: RpcOptions, others: Listener): Listener {
  const serve = connectNodeAdapter({
    grpcWeb: false,
    connect: false,
    readMaxBytes: MESSAGE_LIMIT,
    shutdownSignal: stopping,
    interceptors: [calls(deps)],
    routes: (router) => router.service(GomoteService, service).service(Gomote, own),
  });
  return (request, response) => {
    const { url = "" } = request;
    const asked = PATHS.some((path) => url.startsWith(path));
    if (asked && request.httpVersionMajor === 2) serve(request, response);
    else others(request, response);
  };
}
