/** `POST /hooks/push`: reads the body, up to a limit, and passes it to source/. */
import type { Readable } from "node:stream";
import { handlePush, MAX_PUSH_BODY, type PushDeps } from "../source/push-hook.ts";

export function pushReceiver(
  deps: PushDeps,
): (body: Readable, headers: Headers) => Promise<{ status: number; text: string }> {
  return async (body, headers) => {
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of body) {
      chunks.push(chunk);
      length += chunk.length;
      if (length > MAX_PUSH_BODY) break; // handlePush refuses it
    }
    const answer = await handlePush(Object.fromEntries(headers), Buffer.concat(chunks), deps);
    return { status: answer.status, text: `${JSON.stringify(answer.body)}\n` };
  };
}
