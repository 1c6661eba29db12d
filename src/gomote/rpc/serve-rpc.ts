/**
 * The services beside the pages, on the TLS port. Requests for their paths are answered by them, all others as before.
 * Only gRPC is spoken, so that a page of another site in a browser can call nothing here.
 *
 * Answers are never compressed, whatever the caller accepts. A caller that stops reading holds a command back by the
 * bytes that are on their way to it. Compressed, those 64 KB would be 60 MB of a line that is printed again and again.
 * Compressing also costs more than all the rest of the way.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { createConnectRouter, type ServiceImpl } from "@connectrpc/connect";
import {
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { messageOf } from "../../farm/errors.ts";
import { Gomote } from "../../wire/gomote/gen/barnraiser_pb.ts";
import { GomoteService } from "../../wire/gomote/gen/gomote_pb.ts";
import { type CallsDeps, calls } from "./calls.ts";

/** Bytes of one message of a caller. */
const MESSAGE_LIMIT = 4 * 1024 * 1024;

const PATHS: readonly string[] = [GomoteService, Gomote].map(({ typeName }) => `/${typeName}/`);

type Listener = (request: IncomingMessage | Http2ServerRequest, response: ServerResponse | Http2ServerResponse) => void;

export interface RpcOptions extends CallsDeps {
  readonly service: ServiceImpl<typeof GomoteService>;
  readonly own: ServiceImpl<typeof Gomote>;
  /** Aborts when the coordinator stops, so that no caller is kept waiting. */
  readonly stopping: AbortSignal;
}

export function serveRpc({ service, own, stopping, ...deps }: RpcOptions, others: Listener): Listener {
  const router = createConnectRouter({
    grpcWeb: false,
    connect: false,
    readMaxBytes: MESSAGE_LIMIT,
    acceptCompression: [compressionGzip],
    compressMinBytes: Number.POSITIVE_INFINITY,
    shutdownSignal: stopping,
    interceptors: [calls(deps)],
  });
  const { handlers } = router.service(GomoteService, service).service(Gomote, own);
  const methods = new Map(handlers.map((handler) => [handler.requestPath, handler]));
  return (request, response) => {
    const { url = "" } = request;
    if (request.httpVersionMajor !== 2 || !PATHS.some((path) => url.startsWith(path))) return others(request, response);
    const method = methods.get(url);
    if (!method) {
      response.statusCode = 404;
      response.end();
      return;
    }
    method(universalRequestFromNodeRequest(request, response, undefined, undefined))
      .then((answer) => universalResponseToNodeResponse(answer, response))
      // The caller left before it had the whole answer. An error of a method is part of the answer.
      .catch((error: unknown) => deps.log.debug({ url, error: messageOf(error) }, "An answer was not taken"));
  };
}
