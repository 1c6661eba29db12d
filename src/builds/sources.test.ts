import { Readable } from "node:stream";
import { gunzipSync } from "node:zlib";
import { unpackTar } from "modern-tar";
import { expect, test, vi } from "vitest";
import type { SourcePart } from "../farm/build.ts";
import { FarmError } from "../farm/errors.ts";
import { epochMs, machineId, minutes, sessionId } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { testRecipe } from "../store/testing/farm.ts";
import type { BuildMachine } from "./machine.ts";
import { askedAhead, otherIsMade, writeSources } from "./sources.ts";

const NOON = epochMs(Date.UTC(2026, 10, 23, 12));
const GO: readonly SourcePart[] = [
  { dir: "go", file: "VERSION", text: "devel $COMMIT", name: "write_version_tar" },
  { dir: "go", commit: "own", name: "write_go_src_tar" },
  { dir: "go1.4", url: "https://example.org/go.tar.gz", name: "write_go_bootstrap_tar" },
];

/** A machine whose uploads wait until they are let go, in any order. */
function slowMachine() {
  const calls: string[] = [];
  const bodies = new Map<string, Buffer>();
  const waiting = new Map<string, PromiseWithResolvers<void>>();
  const call = (name: string, signal?: AbortSignal): Promise<void> => {
    calls.push(name);
    const gate = Promise.withResolvers<void>();
    waiting.set(name, gate);
    signal?.addEventListener("abort", () => gate.reject(signal.reason), { once: true });
    return gate.promise;
  };
  const machine: BuildMachine = {
    id: sessionId("0".repeat(32)),
    machineId: machineId(1),
    name: "m1",
    agent: "original",
    resumes: false,
    gone: new AbortController().signal,
    client: {
      removeAll: async () => {},
      cleanUp: async () => {},
      workDir: async () => "/build",
      writeFile: async () => {},
      ls: async () => [],
      readTgz: async () => Readable.from([]),
      readFiles: async () => Readable.from([]),
      readSnapshot: () => Promise.reject(new Error("not asked for")),
      endExecution: async () => {},
      exec: async () => ({ state: "ok", ok: true }),
      writeTgz: async (dir, body, signal) => {
        const name = `${dir} ${calls.length}`;
        bodies.set(name, Buffer.concat(await body.toArray()));
        await call(name, signal);
        return { skippedLinks: undefined };
      },
      writeTgzFromUrl: (dir, url, signal) => call(`${dir} ${url}`, signal),
    },
  };
  const until = async (count: number) => {
    while (calls.length < count) await new Promise(setImmediate);
  };
  return { machine, calls, bodies, until, gate: (name: string) => waiting.get(name) };
}

function write(machine: BuildMachine, sources: readonly SourcePart[] | undefined, said: string[]): Promise<void> {
  const deps = {
    clock: new FakeClock(NOON),
    tarball: async (repo: string, hash: string) => Readable.from([Buffer.from(`${repo} ${hash}`)]),
    say: async (line: string) => void said.push(line),
  };
  const recipe = { ...testRecipe("linux-amd64", "linux"), ...(sources && { sources }) };
  return writeSources(deps, { repo: "go", hash: "abc123" }, recipe, machine, new AbortController().signal);
}

test("writeSources() writes the parts of a folder in order, and different folders at the same time", async () => {
  const { machine, calls, bodies, until, gate } = slowMachine();
  const said: string[] = [];
  const done = write(machine, GO, said);
  await until(2);
  expect(calls).toEqual(["go1.4 https://example.org/go.tar.gz", "go 0"].toSorted((a) => (a === calls[0] ? -1 : 1)));
  const [version = ""] = calls.filter((name) => name.startsWith("go "));
  const files = await unpackTar(gunzipSync(bodies.get(version) ?? Buffer.alloc(0)));
  expect(files.map(({ header, data }) => [header.name, header.mode, Buffer.from(data ?? []).toString()])).toEqual([
    ["VERSION", 0o644, "devel abc123"],
  ]);
  gate(version)?.resolve();
  await until(3);
  expect(bodies.get("go 2")?.toString()).toBe("go abc123");
  gate("go 2")?.resolve();
  gate("go1.4 https://example.org/go.tar.gz")?.resolve();
  await done;
  const at = "  2026-11-23T12:00:00.000Z ";
  expect(said.toSorted()).toEqual(
    ["write_version_tar", "write_go_src_tar", "write_go_bootstrap_tar"]
      .flatMap((name) => [`${at}${name}`, `${at}finish_${name} after 0 ms`])
      .toSorted(),
  );
});

test("writeSources() of a recipe without sources writes the commit's tree to its folder", async () => {
  const { machine, calls, until, gate } = slowMachine();
  const said: string[] = [];
  const done = write(machine, undefined, said);
  await until(1);
  gate("src 0")?.resolve();
  await done;
  expect({ calls, said }).toEqual({ calls: ["src 0"], said: ["wrote go to m1 in 0 ms"] });
});

test("a part that cannot be written ends the others, and is the reason", async () => {
  const { machine, calls, until, gate } = slowMachine();
  const said: string[] = [];
  const done = write(machine, GO, said);
  await until(2);
  gate("go1.4 https://example.org/go.tar.gz")?.reject(new FarmError("machine-broken", "no such address"));
  await expect(done).rejects.toThrow("no such address");
  expect(calls).toHaveLength(2);
});

test("an archive that is asked for ahead goes to who asks first, and is let go where nobody does", async () => {
  const made: Readable[] = [];
  const tarball = async (repo: string, hash: string) => {
    const body = Readable.from([Buffer.from(`${repo} ${hash} ${made.length}`)]);
    made.push(body);
    return body;
  };
  const { signal } = new AbortController();
  const read = async (body: Readable) => Buffer.concat(await body.toArray()).toString();
  {
    using ahead = askedAhead(tarball, { repo: "go", hash: "abc123" }, signal);
    expect(made).toHaveLength(1);
    const asked = [
      ["tools", "abc123"],
      ["go", "abc123"],
      ["go", "abc123"],
    ] as const;
    const given = await Promise.all(asked.map(async ([repo, hash]) => read(await ahead.tarball(repo, hash, signal))));
    expect(given).toEqual(["tools abc123 1", "go abc123 0", "go abc123 2"]);
  }
  {
    using _ahead = askedAhead(tarball, { repo: "go", hash: "abc123" }, signal);
  }
  await vi.waitFor(() => expect(made[3]?.destroyed).toBe(true));
  {
    const refused = () => Promise.reject(new FarmError("not-found", "no such commit"));
    using ahead = askedAhead(refused, { repo: "go", hash: "abc123" }, signal);
    await expect(ahead.tarball("go", "abc123", signal)).rejects.toThrow("no such commit");
  }
});

test("otherIsMade() does not wait for ever for a machine that lists nothing", async () => {
  const clock = new FakeClock();
  const machine = { name: "m1", client: { ls: () => new Promise<string[]>(() => {}) } };
  const looked = expect(otherIsMade(clock, machine, new AbortController().signal)).rejects.toThrow(
    "listing m1 took longer than 1m",
  );
  await clock.advance(minutes(1));
  await looked;
});
