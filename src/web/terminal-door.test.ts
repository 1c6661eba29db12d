/** Who is shown a shell in a browser, and for how long. */
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { duplexPair } from "node:stream";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { WebSocket } from "ws";
import { type PersonId, personId } from "../farm/ids.ts";
import type { Person } from "../farm/person.ts";
import { Terminal } from "../gomote/terminals/terminal.ts";
import { systemClock } from "../store/system-clock.ts";
import { quiet } from "../store/testing/database.ts";
import { ShellLine } from "../wire/buildlet-api/shell-line.ts";
import type { ToBrowser } from "../wire/gomote/terminal-message.ts";
import { TerminalDoor, type TerminalDoorDeps } from "./terminal-door.ts";

const SIZE = { columns: 80, rows: 24 };
const ALICE: Person = { id: personId("U000000001"), email: "alice@example.org", name: "alice", roles: ["member"] };

function terminal(owner: PersonId): Terminal {
  const [line] = duplexPair();
  const silent = { printed: () => {}, resized: () => {} };
  return new Terminal({ clock: systemClock, line: new ShellLine(line), owner, instance: "a", ...silent }, SIZE);
}

async function listening(deps: TerminalDoorDeps, stack: AsyncDisposableStack): Promise<string> {
  const door = stack.use(new TerminalDoor(deps));
  const server = createServer().on("upgrade", (request, socket, head) => void door.knock(request, socket, head));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stack.defer(() => void server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test("an address that is none is refused with a sentence", async () => {
  await using stack = new AsyncDisposableStack();
  const deps = { clock: systemClock, log: quiet, signedIn: async () => ALICE } as Partial<TerminalDoorDeps>;
  const host = await listening(deps as TerminalDoorDeps, stack);
  const browser = new WebSocket(`ws://${host}/gomotes/a%zz/shell`, { origin: `http://${host}` });
  const [, answer] = (await once(browser, "unexpected-response")) as [unknown, IncomingMessage];
  expect([answer.statusCode, await text(answer)]).toEqual([
    400,
    'Cannot open a shell on "a%zz": want UTF-8 behind each %\n',
  ]);
});

test("a shell ends when its browser is signed out, and not when something else about its person changes", async () => {
  await using stack = new AsyncDisposableStack();
  const shell = terminal(ALICE.id);
  let signedIn: Person | undefined = ALICE;
  const heard: ((topic: string) => void)[] = [];
  const asked: PromiseWithResolvers<void>[] = [];
  const deps: TerminalDoorDeps = {
    bus: { publish: () => {}, subscribe: (_, listener) => heard.push(listener) },
    clock: systemClock,
    log: quiet,
    instances: { held: () => Promise.resolve({}) as never },
    terminals: {
      open: async () => shell,
      find: () => shell,
      show: (shown, screen, from, size) => {
        shown.show(screen, from, size);
        return () => shown.leave(screen);
      },
    },
    peers: { connect: () => Promise.reject(new Error("There are no others")) },
    signedIn: async () => {
      asked.shift()?.resolve();
      return signedIn;
    },
  };
  const host = await listening(deps, stack);
  const browser = new WebSocket(`ws://${host}/gomotes/a/shell`, { origin: `http://${host}` });
  const told: ToBrowser[] = [];
  const opened = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  browser.on("message", (data) => {
    const message = JSON.parse(String(data)) as ToBrowser;
    told.push(message);
    ("opened" in message ? opened : ended).resolve();
  });
  browser.on("open", () => browser.send(JSON.stringify({ open: { shell: null, from: 0, ...SIZE } })));
  await opened.promise;

  const looked = Promise.withResolvers<void>();
  asked.push(looked);
  for (const hear of heard) hear(`person:${ALICE.id}`);
  await looked.promise;
  signedIn = undefined;
  for (const hear of heard) hear(`person:${ALICE.id}`);
  await ended.promise;
  const why = "You are not signed in any more: log in again.";
  expect([told.slice(1), await shell.over]).toEqual([[{ ended: why }], why]);
  browser.terminate();
});
