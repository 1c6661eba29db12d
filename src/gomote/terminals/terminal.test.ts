import { duplexPair } from "node:stream";
import { expect, test } from "vitest";
import { personId, seconds } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { until } from "../../farm/testing/until.ts";
import type { ShellFrame } from "../../wire/buildlet-api/shell.ts";
import { ShellLine } from "../../wire/buildlet-api/shell-line.ts";
import { KEPT_MS, SCREEN, type ToBrowser, WINDOW } from "../../wire/gomote/terminal-message.ts";
import { type Screen, Terminal } from "./terminal.ts";

const SIZE = { columns: 80, rows: 24 };

class TestScreen implements Screen {
  readonly told: ToBrowser[] = [];
  bytes = Buffer.alloc(0);
  closed = false;
  /** Its connection takes nothing until `take`. */
  stuck = false;
  #waiting: (() => void)[] = [];
  send(bytes: Uint8Array, left: () => void): void {
    this.bytes = Buffer.concat([this.bytes, bytes]);
    if (this.stuck) this.#waiting.push(left);
    else left();
  }
  take(): void {
    this.stuck = false;
    for (const left of this.#waiting.splice(0)) left();
  }
  tell(message: ToBrowser): void {
    this.told.push(message);
  }
  close(): void {
    this.closed = true;
  }
}

/** A terminal, and the machine's end of it. */
function world() {
  const [ours, theirs] = duplexPair();
  const clock = new FakeClock();
  const machine = new ShellLine(theirs);
  const heard: ShellFrame[] = [];
  machine.listen({ frame: (frame) => heard.push(frame), closed: () => {} });
  const line = new ShellLine(ours);
  const owner = personId("U000000001");
  const terminal = new Terminal({ clock, line, owner, instance: "a", printed: () => {}, resized: () => {} }, SIZE);
  const print = (text: string) => machine.send({ kind: "data", bytes: Buffer.from(text) });
  return { terminal, machine, heard, clock, print };
}

test("a screen that comes back goes on with the next byte; after too much it gets the last of it", async () => {
  const { terminal, print, heard } = world();
  const first = new TestScreen();
  terminal.show(first, 0, SIZE);
  print("one ");
  await until(() => first.bytes.length === 4, "one");
  terminal.leave(first);
  print("two");
  await until(() => heard.length > 0, "the shell opened");
  await new Promise((done) => setImmediate(done));
  const second = new TestScreen();
  terminal.show(second, 4, { columns: 100, rows: 30 });
  await until(() => second.bytes.length === 3, "two");
  expect(second.told).toEqual([{ opened: { shell: terminal.id, at: 4, note: "" } }]);
  expect(heard.at(-1)).toEqual({ kind: "resize", columns: 100, rows: 30 });
  terminal.leave(second);
  for (let n = 0; n < 8; n++) print("x".repeat(32 * 1024));
  await until(() => second.bytes.length === 3, "nothing for who left");
  const third = new TestScreen();
  await until(() => {
    terminal.show(third, 7, SIZE);
    return third.told.some((told) => "opened" in told && told.opened.at > 7);
  }, "more was printed than is kept");
  expect(third.bytes.length).toBeGreaterThanOrEqual(SCREEN);
  terminal.end("over");
});

/** Prints more than a window, and says how much of it was sent. */
async function flood({ print }: ReturnType<typeof world>, screen: TestScreen): Promise<number> {
  for (let n = 0; n < 40; n++) print("y".repeat(32 * 1024));
  await until(() => screen.bytes.length >= WINDOW, "the window");
  for (let n = 0; n < 20; n++) await new Promise((done) => setImmediate(done));
  return screen.bytes.length;
}

test("a screen that shows nothing holds the program back at the window, and goes on when it says so", async () => {
  const shell = world();
  const { terminal } = shell;
  const screen = new TestScreen();
  terminal.show(screen, 0, SIZE);
  const held = await flood(shell, screen);
  expect(held).toBeLessThan(WINDOW + 64 * 1024);
  terminal.shown(held);
  await until(() => screen.bytes.length > held, "more");
  terminal.end("over");
});

test("a screen that says it has shown everything, and takes nothing, is sent no more than a window", async () => {
  const shell = world();
  const { terminal } = shell;
  const screen = new TestScreen();
  screen.stuck = true;
  terminal.show(screen, 0, SIZE);
  terminal.shown(Number.MAX_SAFE_INTEGER);
  const held = await flood(shell, screen);
  expect(held).toBeLessThan(WINDOW + 64 * 1024);
  screen.take();
  await until(() => screen.bytes.length > held, "more");
  terminal.end("over");
});

test("whoever does not come back in time finds it over, and whoever takes over tells the other", async () => {
  const { terminal, clock } = world();
  const [first, second] = [new TestScreen(), new TestScreen()];
  terminal.show(first, 0, SIZE);
  terminal.show(second, 0, SIZE);
  expect([first.closed, first.told.at(-1)]).toEqual([true, { ended: "This shell is shown in another window now." }]);
  terminal.leave(first);
  terminal.leave(second);
  await clock.advance(seconds(KEPT_MS / 1000));
  expect(await terminal.over).toBe("Nobody came back to it within 60 s.");
});

test("how the shell ended is said in a sentence", async () => {
  const { terminal, machine } = world();
  const screen = new TestScreen();
  terminal.show(screen, 0, SIZE);
  machine.send({ kind: "exit", exit: { code: 3, signal: null, problem: "" } });
  expect(await terminal.over).toBe("The shell has ended, with exit status 3.");
  expect([screen.closed, screen.told.at(-1)]).toEqual([true, { ended: "The shell has ended, with exit status 3." }]);
});
