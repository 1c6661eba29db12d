import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { minutes, seconds } from "../../farm/ids.ts";
import { RECONNECT_WITHIN } from "../../farm/lease.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { until } from "../../farm/testing/until.ts";
import { LEASE_GOES_ON, LEASE_HEADER } from "../../wire/buildlet-api/buildlet-api.ts";
import { encodeExecForm } from "../../wire/buildlet-api/exec-form.ts";
import { Execution } from "../exec/execution.ts";
import { Spool } from "../exec/spool.ts";
import { ANSWER_LIMIT } from "../reverse/switch-protocol.ts";
import { OriginalCoordinator, replyOf } from "../testing/original-coordinator.ts";
import { running } from "../testing/processes.ts";
import { TestMachine } from "../testing/test-machine.ts";

const FORM = { "Content-Type": "application/x-www-form-urlencoded" };

function ask(machine: TestMachine, script: string, id: string, from: number | string = 0, further = {}) {
  const headers = { ...FORM, "Barnraiser-Execution": id, "Barnraiser-From": String(from), ...further };
  const form = { cmd: "/bin/sh", args: ["-c", script], dir: ".", env: [], path: [], system: false, debug: false };
  return machine.coordinator.open({ method: "POST", path: "/exec", headers }, encodeExecForm(form));
}

async function post(machine: TestMachine, path: string, body: string, further = {}): Promise<number> {
  const headers = { ...FORM, ...further };
  return (await replyOf(await machine.coordinator.open({ method: "POST", path, headers }, body))).status;
}

const outcome = async (response: Parameters<typeof replyOf>[0] | Promise<Parameters<typeof replyOf>[0]>) => {
  const reply = await replyOf(await response);
  return [reply.status, reply.body.toString(), reply.trailers["process-state"]];
};

test("a command with a name goes on when its connection breaks, and is taken up from any byte, also when it has ended", async () => {
  await using machine = await TestMachine.start();
  const script = "echo $$ >> runs; echo one; while [ ! -e go ]; do sleep 0.01; done; echo two; exit 3";
  const first = await ask(machine, script, "a1.1");
  first.on("error", () => {});
  await until(() => expect(existsSync(join(machine.workDir, "runs"))).toBe(true));
  first.destroy();
  const second = ask(machine, "exit 99", "a1.1", 2);
  await ask(machine, "touch go", "a1.2");
  expect(await outcome(second)).toEqual([200, "e\ntwo\n", "exit status 3"]);
  expect(await outcome(ask(machine, "", "a1.1", 0))).toEqual([200, "one\ntwo\n", "exit status 3"]);
  expect(await outcome(ask(machine, "", "a1.1", 8))).toEqual([200, "", "exit status 3"]);
  expect(await outcome(ask(machine, "", "a1.1", Number.MAX_SAFE_INTEGER))).toEqual([200, "", "exit status 3"]);
  expect((await readFile(join(machine.workDir, "runs"), "utf8")).trim().split("\n").length).toBe(1);
});

test("whoever takes a command up hears how long it ran, to its end, and what it had printed by then", async () => {
  const clock = new FakeClock();
  await using machine = await TestMachine.start({ clock });
  const taken = async (from: number) => {
    const response = await ask(machine, "echo one", "a1.1", from);
    const { "barnraiser-age": age, "barnraiser-length": length } = response.headers;
    await replyOf(response);
    return { age, length };
  };
  expect(await taken(0)).toEqual({ age: "0", length: "0" });
  await clock.advance(seconds(60));
  expect(await taken(2)).toEqual({ age: "0", length: "4" });
});

test("only the newest client is attached", async () => {
  await using machine = await TestMachine.start();
  const first = await ask(machine, "echo one; while [ ! -e go ]; do sleep 0.01; done; echo two", "a1.1");
  const broken = replyOf(first).then(
    () => "whole",
    () => "cut",
  );
  const second = ask(machine, "", "a1.1", 0);
  expect(await broken).toBe("cut");
  await ask(machine, "touch go", "a1.2");
  expect(await outcome(second)).toEqual([200, "one\ntwo\n", "ok"]);
});

test("what cannot be gone on with is refused: a name that is not known, one that was ended, headers of another shape", async () => {
  await using machine = await TestMachine.start();
  expect(await post(machine, "/removeall", "path=.")).toBe(200); // as before each lease
  expect((await outcome(ask(machine, "true", "a1.1", 5))).slice(0, 2)).toEqual([
    409,
    "Cannot go on with a1.1 from byte 5: there is no such execution here\n",
  ]);
  const running = await ask(machine, "exec sleep 300.5", "a1.1");
  running.on("error", () => {});
  expect(await post(machine, "/exec-end", "id=a1.1")).toBe(200);
  expect(await post(machine, "/exec-end", "id=never")).toBe(200);
  // Whoever was killed on the way here is not started.
  expect((await outcome(ask(machine, "touch started", "never")))[0]).toBe(410);
  expect(existsSync(join(machine.workDir, "started"))).toBe(false);
  expect((await outcome(ask(machine, "echo again", "a1.1")))[0]).toBe(410);
  expect((await outcome(ask(machine, "true", "../x")))[0]).toBe(400);
  expect((await outcome(ask(machine, "true", "a1.3", "-1")))[0]).toBe(400);
  // Files only: the names go on to mean what they meant.
  expect(await post(machine, "/removeall", "path=.", { [LEASE_HEADER]: LEASE_GOES_ON })).toBe(200);
  expect((await outcome(ask(machine, "echo again", "a1.1")))[0]).toBe(410);
  // A new build: the names of the one before mean nothing any more.
  expect(await post(machine, "/removeall", "path=.")).toBe(200);
  expect(await outcome(ask(machine, "echo new", "a1.1"))).toEqual([200, "new\n", "ok"]);
});

test("a command that nobody is attached to is killed after a while, with all that it started", async () => {
  const clock = new FakeClock();
  await using machine = await TestMachine.start({ clock });
  const word = `alone-${randomBytes(6).toString("hex")}`;
  const first = await ask(machine, `bash -c 'exec -a ${word} sleep 300' & wait`, "a1.1");
  first.on("error", () => {});
  await until(() => expect(running(word).length).toBe(2)); // the command, and what it started
  first.destroy();
  await until(async () => {
    await clock.advance(RECONNECT_WITHIN); // counted from when the end of the connection was heard of
    expect(running(word)).toEqual([]);
  });
  expect((await outcome(ask(machine, "echo again", "a1.1")))[0]).toBe(410);
}, 20_000);

test("a command goes on alone for as long as its last client said", async () => {
  const clock = new FakeClock();
  await using machine = await TestMachine.start({ clock });
  const word = `alone-${randomBytes(6).toString("hex")}`;
  const alone = { "Barnraiser-Alone": String(minutes(30)) };
  const first = await ask(machine, `exec bash -c 'exec -a ${word} sleep 300'`, "a1.1", 0, alone);
  first.on("error", () => {});
  await until(() => expect(running(word).length).toBe(1));
  const asleep = clock.sleeping;
  first.destroy();
  await until(() => expect(clock.sleeping).toBe(asleep + 1)); // it has heard of the end of the connection
  await clock.advance(minutes(29));
  const second = await ask(machine, "", "a1.1", 0, alone);
  second.on("error", () => {});
  expect(second.statusCode).toBe(200);
  second.destroy();
  await until(async () => {
    await clock.advance(minutes(30));
    expect(running(word)).toEqual([]);
  });
}, 20_000);

test("megabytes that nobody read are all there, in order, for a client that comes later", async () => {
  await using machine = await TestMachine.start();
  const first = await ask(machine, "while [ ! -e go ]; do sleep 0.01; done; seq 1 2000000; touch printed", "a1.1");
  first.on("error", () => {});
  first.destroy();
  await ask(machine, "touch go", "a1.2");
  await until(() => expect(existsSync(join(machine.workDir, "printed"))).toBe(true));
  const reply = await replyOf(await ask(machine, "", "a1.1", 6));
  const whole = Array.from({ length: 2_000_000 }, (_, i) => `${i + 1}\n`).join("");
  expect(reply.body.equals(Buffer.from(whole.slice(6)))).toBe(true);
}, 30_000);

test("Spool keeps the newest bytes up to its limit, across its own end", () => {
  using spool = new Spool(1000);
  const all = randomBytes(5432);
  for (let at = 0; at < all.length; at += 123) spool.append(all.subarray(at, at + 123));
  expect([spool.from, spool.end]).toEqual([4432, 5432]);
  const parts: Buffer[] = [];
  for (let at = spool.from; at < spool.end; at += parts.at(-1)?.length ?? 0) parts.push(spool.read(at, 300));
  expect(Buffer.concat(parts).equals(all.subarray(4432))).toBe(true);
  spool.forget(5000);
  expect([spool.from, spool.room]).toEqual([5000, 568]);
});

test("a farm of our own kind that is lost is dialled again by the same process, a little later each time, and its commands go on", async () => {
  await using coordinator = await OriginalCoordinator.start();
  coordinator.headers = "Barnraiser-Pong: 1\r\n";
  const clock = new FakeClock();
  await using machine = await TestMachine.start({ coordinator, clock });
  await coordinator.registered();
  const first = await ask(machine, "echo one; while [ ! -e go ]; do sleep 0.01; done; echo two", "a1.1");
  first.on("error", () => {});
  const agentOf = () =>
    coordinator.seen
      .filter(({ raw }) => raw.startsWith("GET /reverse"))
      .map(({ head }) => head.fields.find(([name]) => name === "Barnraiser-Agent")?.[1] ?? "");
  const lost = await coordinator.registered();
  coordinator.control = undefined;
  lost.destroy();
  await until(async () => {
    await clock.advance(seconds(1));
    expect(agentOf().length).toBe(2);
  });
  await coordinator.registered();
  const [before, after] = agentOf().map((text) => /instance=([0-9a-f]{32})/.exec(text)?.[1]);
  expect(before).toBeDefined();
  expect(after).toBe(before);
  await ask(machine, "touch go", "a1.2");
  expect(await outcome(ask(machine, "", "a1.1", 4))).toEqual([200, "two\n", "ok"]);
});

test("a farm that does not come back is given up after -reconnect, and one that says to leave is left at once", async () => {
  for (const how of ["away", "halt"] as const) {
    const clock = new FakeClock();
    const coordinator = await OriginalCoordinator.start();
    coordinator.headers = "Barnraiser-Pong: 1\r\n";
    const machine = await TestMachine.start({ coordinator, clock, flags: ["-reconnect=10s"] });
    const control = await coordinator.registered();
    if (how === "halt") expect(await post(machine, "/halt", "")).toBe(200);
    const over = { yes: false };
    void machine.ended.then(() => {
      over.yes = true;
    });
    control.destroy();
    await coordinator[Symbol.asyncDispose]();
    await until(async () => {
      await clock.advance(seconds(1));
      expect(over.yes).toBe(true);
    });
    expect(machine.log.some((line) => line.includes("could not come back"))).toBe(how === "away");
    await machine[Symbol.asyncDispose]();
  }
});

test("a farm that is lost and then says later, or says nothing for a minute, is dialled again; one that says no ends the process", async () => {
  await using coordinator = await OriginalCoordinator.start();
  coordinator.headers = "Barnraiser-Pong: 1\r\n";
  const clock = new FakeClock();
  await using machine = await TestMachine.start({ coordinator, clock, flags: ["-reconnect=24h"] });
  const registrations = () => coordinator.seen.filter(({ raw }) => raw.startsWith("GET /reverse")).length;
  const control = await coordinator.registered();
  await coordinator.until(() => machine.log.some((line) => line.startsWith("Registered")));
  control.destroy();
  const refusal = (status: string) => `HTTP/1.1 ${status}\r\nContent-Length: 0\r\n\r\n`;
  const answers = [
    refusal("408 Request Timeout"),
    refusal("429 Too Many Requests"),
    "",
    refusal("412 Precondition Failed"),
  ];
  for (const answer of answers) {
    coordinator.answer = () => answer;
    const before = registrations();
    // In steps that leave a dial, whose limits are of the same clock, the time that it really takes.
    await until(async () => {
      await clock.advance(seconds(1));
      expect(registrations()).toBeGreaterThan(before);
    });
    if (answer === "") await clock.advance(ANSWER_LIMIT);
  }
  await machine.ended;
  expect(machine.log.at(-1)).toMatch(/^The session is over: the coordinator answered 412 Precondition Failed/);
});

test("a pick-up that is not answered is told as failed after a minute", async () => {
  const clock = new FakeClock();
  await using machine = await TestMachine.start({ clock });
  const { coordinator } = machine;
  await coordinator.registered();
  coordinator.answer = () => "";
  coordinator.send({ command: "conn-ready", connPath: "/revdial?revdial.dialer=mute" });
  await coordinator.until(() => coordinator.seen.length === 2);
  await clock.advance(ANSWER_LIMIT);
  expect((await coordinator.until(() => coordinator.lines[0])).err).toBe("the coordinator did not answer in 60 s");
});

test("an execution whose spool the disk refuses ends its reader and never gives it what is not the command's", async () => {
  const folder = await mkdtemp(join(tmpdir(), "spool-refused-"));
  vi.stubEnv("TMPDIR", join(folder, "not-there"));
  onTestFinished(async () => {
    vi.unstubAllEnvs();
    await rm(folder, { recursive: true });
  });
  using execution = new Execution(new FakeClock(), () => {});
  const server = createServer((_, response) => {
    response.flushHeaders();
    execution.attach(response, 0, minutes(5));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  execution.sink.write(Buffer.from("lost"));
  expect([execution.has(0), execution.has(4)]).toEqual([false, true]);
  const { port } = server.address() as AddressInfo;
  await expect(fetch(`http://127.0.0.1:${port}`).then((response) => response.text())).rejects.toThrow("terminated");
});
