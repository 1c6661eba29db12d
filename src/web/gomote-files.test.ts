/** Files in the browser, of an instance whose machine is connected here: what passes, and for how long. */
import { PassThrough, Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { minutes, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import type { HeldInstance } from "../gomote/holdings.ts";
import { STALL } from "../gomote/transfers/meter.ts";
import type { BuildletClient } from "../machines/machine-session.ts";
import { lending, type TestWeb, testWeb } from "./testing/web.ts";

interface FileWeb extends AsyncDisposable {
  readonly web: TestWeb;
  readonly clock: FakeClock;
  readonly token: string;
  /** Instances in use now. */
  readonly inUse: () => number;
}

async function fileWeb(client: Partial<BuildletClient>): Promise<FileWeb> {
  const clock = new FakeClock();
  const nothing = lending([]);
  let inUse = 0;
  const instance = { id: 1, name: "alice-linux-0", workingDir: "/work" };
  const held = { instance, machine: { client }, over: new AbortController().signal } as unknown as HeldInstance;
  const instances = {
    ...nothing.instances,
    held: async () => held,
    keep: () => {
      inUse++;
      return { [Symbol.dispose]: () => void inUse-- };
    },
  };
  const web = await testWeb({ clock, empty: true, deps: { lending: { ...nothing, instances } } });
  const alice = await web.people.add("alice@example.org", ["member"], "test");
  const { token } = await web.people.newToken(alice, "test", minutes(60 * 24), "test");
  return { web, clock, token, inUse: () => inUse, [Symbol.asyncDispose]: () => web[Symbol.asyncDispose]() };
}

const PATH = "/gomotes/alice-linux-0";

/** Of an empty work folder; all else is a file. */
const listing = async (path: string) =>
  Readable.from(path === "." ? [] : [Buffer.from("-rw-r--r--\t\t3\t2026-11-23T17:00:05Z\n")]);

function put({ web, token }: FileWeb, body: Readable): Promise<Response> {
  const headers = { authorization: `Bearer ${token}`, accept: "application/json" };
  const init = { method: "PUT", headers, body: Readable.toWeb(body) as ReadableStream, duplex: "half" } as const;
  return web.get(`${PATH}/files?path=d%2Ff`, init);
}

test("a file is written as it comes for as long as it moves; one that is too large, or in which nothing moves, is given up with the reason", async () => {
  let written = 0;
  await using files = await fileWeb({
    writeFile: async (_path, _mode, body) => {
      for await (const chunk of body as Readable) written += chunk.length;
    },
  });
  const { web, clock } = files;
  const slow = new PassThrough();
  const answer = put(files, slow);
  for (let halves = 1; halves <= 12; halves++) {
    slow.write("x");
    await expect.poll(() => [written, clock.sleeping]).toEqual([halves, 1]);
    await clock.advance(seconds(30));
  }
  slow.end();
  expect(await (await answer).json()).toEqual({ message: "d/f is on alice-linux-0" });

  const stuck = new PassThrough();
  const late = put(files, stuck);
  stuck.write("x");
  await expect.poll(() => clock.sleeping).toBe(1);
  await clock.advance(STALL);
  expect(await (await late).json()).toEqual({ error: "Gave up d/f: nothing moved for 60 s" });

  web.config = { ...web.config, gomote: { ...web.config.gomote, transferLimitBytes: 1024 } };
  const large = await put(files, Readable.from([Buffer.alloc(4096)]));
  expect([large.status, await large.json()]).toEqual([
    413,
    { error: "Cannot take d/f: it is larger than the limit of 1 KiB" },
  ]);
  expect(files.inUse()).toBe(0);
});

test("a browser without script sends a form with one file, which is written as it comes; one without a file is refused", async () => {
  const written = new Map<string, string>();
  await using files = await fileWeb({
    writeFile: async (path, _mode, body) => {
      written.set(path, await text(body as Readable));
    },
  });
  const { web, clock, token } = files;
  const send = async (file: File | undefined, path: string, more: RequestInit = {}) => {
    const form = new FormData();
    if (file) form.append("file", file);
    const headers = { authorization: `Bearer ${token}`, accept: "text/html" };
    const answer = await web.get(`${PATH}/files?path=${encodeURIComponent(path)}`, {
      method: "POST",
      headers,
      body: form,
      ...more,
    });
    return [answer.status, answer.headers.get("location") ?? (await answer.text())];
  };
  expect(await send(new File(["a <b>"], "ä b.txt"), "d e")).toEqual([303, `${PATH}/files?path=d%20e`]);
  expect(await send(new File([], "empty"), "")).toEqual([303, `${PATH}/files`]);
  expect(Object.fromEntries(written)).toEqual({ "d e/ä b.txt": "a <b>", empty: "" });
  for (const [file, path, why] of [
    [new File([], ""), "", "choose a file first"],
    [undefined, "", "the form has no file"],
    [new File(["x"], "f"), "../..", "one below its work dir"],
  ] as const)
    expect(await send(file, path)).toEqual([400, expect.stringContaining(why)]);
  const foreign = { cookie: `session=${token}`, origin: "https://elsewhere.example" };
  expect((await send(new File(["x"], "f"), "", { headers: foreign }))[0]).not.toBe(303);
  web.config = { ...web.config, gomote: { ...web.config.gomote, transferLimitBytes: 1024 } };
  expect(await send(new File(["x".repeat(4096)], "f"), "")).toEqual([
    413,
    expect.stringContaining("larger than the limit of 1 KiB"),
  ]);
  const stuck = new PassThrough();
  stuck.write("--b\r\nContent-Disposition: form-data; name=file; filename=f\r\n");
  const body = Readable.toWeb(stuck) as ReadableStream;
  const late = send(undefined, "", {
    headers: { authorization: `Bearer ${token}`, "content-type": "multipart/form-data; boundary=b" },
    body,
    duplex: "half",
  } as RequestInit);
  await expect.poll(() => clock.sleeping).toBe(1);
  await clock.advance(STALL);
  expect((await late)[1]).toContain("nothing moved for 60 s");
  expect([files.inUse(), written.size]).toEqual([0, 2]);
});

test("an instance is in use until its download has been read to the end, or is not wanted any more", async () => {
  const bodies: PassThrough[] = [];
  const readTgz = async () => {
    const body = new PassThrough();
    bodies.push(body);
    return body;
  };
  await using files = await fileWeb({ readTgz, readLs: listing });
  const { web, token } = files;
  const download = () => web.get(`${PATH}/download`, { headers: { authorization: `Bearer ${token}` } });
  const [whole, left] = [await download(), await download()];
  expect(files.inUse()).toBe(2);
  await left.body?.cancel();
  expect(files.inUse()).toBe(1);
  bodies[0]?.end("archive");
  expect([await whole.text(), files.inUse()]).toEqual(["archive", 0]);
});

test("a download of which nothing is read is given up, and the instance is not in use any more", async () => {
  await using files = await fileWeb({
    readTgz: async () => Readable.from(Array<Buffer>(64).fill(Buffer.alloc(1 << 18)), { objectMode: false }),
    readLs: listing,
    exec: async (_, take) => {
      for (let piece = 0; piece < 64; piece++) await take(Buffer.alloc(1 << 18));
      return { state: "ok", ok: true };
    },
  });
  const { web, clock, token } = files;
  for (const path of ["download", "file?path=f"]) {
    const stuck = await web.get(`${PATH}/${path}`, { headers: { authorization: `Bearer ${token}` } });
    expect([stuck.status, files.inUse()]).toEqual([200, 1]);
    await expect.poll(() => clock.sleeping).toBe(1);
    // What moved last may have moved a moment ago.
    await clock.advance(STALL);
    await clock.advance(STALL);
    await expect.poll(files.inUse).toBe(0);
    await expect(stuck.arrayBuffer()).rejects.toThrow();
  }
});

test("whoever asks for the head of a file or of a folder leaves nothing that the machine goes on with", async () => {
  const signals: (AbortSignal | undefined)[] = [];
  const packed = new PassThrough();
  const standing = Promise.withResolvers<never>();
  await using files = await fileWeb({
    readTgz: async (_, given) => {
      signals.push(given);
      return packed;
    },
    readLs: listing,
    exec: (_request, _take, given) => {
      signals.push(given);
      return standing.promise;
    },
  });
  const headers = { authorization: `Bearer ${files.token}` };
  for (const path of ["download", "file?path=f"]) {
    const head = await files.web.get(`${PATH}/${path}`, { method: "HEAD", headers });
    expect([head.status, head.headers.get("content-disposition"), files.inUse()]).toEqual([
      200,
      expect.stringContaining("attachment"),
      0,
    ]);
  }
  expect([signals.map((each) => each?.aborted), packed.destroyed]).toEqual([[true, true], true]);
});
