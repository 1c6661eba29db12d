import { createHash } from "node:crypto";
import { existsSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { createServer, IncomingMessage } from "node:http";
import { type AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { gunzipSync, gzipSync } from "node:zlib";
import { unpackTar } from "modern-tar";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { encodeExecForm } from "../../wire/buildlet-api/exec-form.ts";
import { type TarWriteEntry, tarEnd, tarHeader, tarPadding } from "../../wire/tar/tar-writer.ts";
import { TestMachine } from "../testing/test-machine.ts";
import { pack } from "./pack.ts";
import { unpack } from "./unpack.ts";

let machine: TestMachine;
beforeAll(async () => {
  machine = await TestMachine.start();
  await machine.coordinator.registered();
});
afterAll(() => machine[Symbol.asyncDispose]());
afterEach(async () => {
  await machine.coordinator.fetch({ method: "POST", path: "/removeall?path=." });
  await mkdir(machine.workDir);
});

type Entry = Partial<TarWriteEntry> & { name: string; content?: string; flag?: string };

function tar(...entries: readonly Entry[]): Buffer {
  const parts = entries.flatMap(({ content = "", flag, ...entry }) => {
    const header = tarHeader({ type: "file", mode: 0o644, mtime: 1000, size: content.length, ...entry });
    if (flag !== undefined) {
      header.write(flag, 156, "latin1");
      header.fill(" ", 148, 156);
      header.write(
        `${header
          .reduce((sum, byte) => sum + byte, 0)
          .toString(8)
          .padStart(6, "0")}\0 `,
        148,
        "latin1",
      );
    }
    return [header, Buffer.from(content), tarPadding(content.length)];
  });
  return gzipSync(Buffer.concat([...parts, tarEnd()]));
}

async function put(path: string, body: Buffer | Readable): Promise<readonly [number, string]> {
  const reply = await machine.coordinator.fetch({ method: "PUT", path }, body);
  return [reply.status, reply.body.toString()];
}

async function get(path: string): Promise<readonly [number, string]> {
  const reply = await machine.coordinator.fetch({ path });
  return [reply.status, reply.body.toString("latin1")];
}

async function post(path: string, form: string): Promise<readonly [number, string]> {
  const headers = { "Content-Type": "application/x-www-form-urlencoded" };
  const reply = await machine.coordinator.fetch({ method: "POST", path, headers }, form);
  return [reply.status, reply.body.toString()];
}

const inWork = (name: string) => join(machine.workDir, name);
const text = (name: string) => readFileSync(inWork(name), "utf8");

test("[coordinator 26] a wrong method is 400, an unknown path 404, and the open pages are open", async () => {
  const wrong: readonly (readonly [string, string])[] = [
    ["POST", "/status"], ["PUT", "/workdir"], ["GET", "/writetgz"], ["POST", "/write"], ["POST", "/tgz"], ["POST", "/ls"],
    ["GET", "/removeall"], ["GET", "/exec"], ["GET", "/halt"],
  ]; // biome-ignore format: two rows
  for (const [method, path] of wrong) {
    expect([method, path, (await machine.coordinator.fetch({ method, path })).status]).toEqual([method, path, 400]);
  }
  expect(await get("/")).toEqual([200, expect.stringMatching(/^buildlet running on \w+-\w+\n$/)]);
  expect(await get("/healthz")).toEqual([200, "ok\n"]);
  expect(await get("/workdir")).toEqual([200, machine.workDir]);
  expect(await get("/debug/x?n=5")).toEqual([200, "XXXXX"]);
  expect((await get("/debug/x?n=99999999"))[1].length).toBe(1 << 20);
  expect((await get("/debug/goroutines"))[0]).toBe(200);
  expect((await get("/tcpproxy"))[0]).toBe(404);
});

test("[coordinator 28] in listen mode a wrong password is 403, and the open pages stay open", async () => {
  await using listener = await TestMachine.start({
    flags: ["-reverse-type=", "-listen=127.0.0.1:0"],
    env: { META_password: "open sesame" },
  });
  const port = await listener.listening;
  const ask = async (path: string, password?: string) => {
    const headers =
      password === undefined ? {} : { Authorization: `Basic ${Buffer.from(`:${password}`).toString("base64")}` };
    return (await fetch(`http://127.0.0.1:${port}${path}`, { headers })).status;
  };
  expect([
    await ask("/status"), await ask("/status", "wrong"), await ask("/status", "open sesame"), await ask("/"), await ask("/healthz"),
    await ask("/workdir", ""),
  ]).toEqual([403, 403, 200, 200, 200, 403]); // biome-ignore format: two rows
});

test("[coordinator 29] names that lead out of the work dir are 400 and write nothing; a/../b is b", async () => {
  for (const name of ["../evil", "/tmp/barnraiser-evil", "a/../../evil", ".."]) {
    expect((await put("/writetgz", tar({ name, content: "x" })))[0]).toBe(400);
  }
  expect([existsSync(join(machine.workDir, "..", "evil")), existsSync("/tmp/barnraiser-evil")]).toEqual([false, false]);
  expect(await put("/writetgz", tar({ name: "a/../b", content: "here" }))).toEqual([200, "OK"]);
  expect(text("b")).toBe("here");
  expect((await put("/writetgz?dir=../x", tar()))[0]).toBe(400);
  expect(await put("/writetgz?dir=deep/er", tar({ name: "f", content: "1" }))).toEqual([200, "OK"]);
  expect(text("deep/er/f")).toBe("1");
});

test("[coordinator 30] a symlink is skipped; a FIFO or device is 400 and what came before stays", async () => {
  expect(
    (
      await put(
        "/writetgz",
        tar({ name: "out", type: "symlink", linkName: "/etc" }, { name: "out/passwd", content: "x" }),
      )
    )[0],
  ).toBe(200);
  expect([(await stat(inWork("out"))).isDirectory(), text("out/passwd")]).toEqual([true, "x"]);
  for (const flag of ["6", "3", "4"]) {
    expect(
      (
        await put("/writetgz", tar({ name: `before${flag}`, content: "y" }, { name: "odd", flag }, { name: "after" }))
      )[0],
    ).toBe(400);
    expect([text(`before${flag}`), existsSync(inWork("odd")), existsSync(inWork("after"))]).toEqual([
      "y",
      false,
      false,
    ]);
  }
  expect((await put("/writetgz", tar({ name: "hard", flag: "1", linkName: "/etc/passwd" })))[0]).toBe(200);
  expect(text("hard")).toBe("");
});

const KEEP = { "Barnraiser-Symlinks": "keep" };

test("with Barnraiser-Symlinks: keep links that stay inside are made, after all files, and the others are counted", async () => {
  const archive = tar(
    { name: "link", type: "symlink", linkName: "real" },
    { name: "d/up", type: "symlink", linkName: "../real" },
    { name: "ahead", type: "symlink", linkName: "not/there" },
    { name: "evil", type: "symlink", linkName: "/etc/passwd" },
    { name: "d/evil", type: "symlink", linkName: "../../x" },
    { name: "real", content: "the content" },
  );
  const send = (headers: { [name: string]: string }) =>
    machine.coordinator.fetch({ method: "PUT", path: "/writetgz?dir=src", headers }, archive);
  const plain = await send({});
  expect([plain.status, plain.headers["barnraiser-skipped"], existsSync(inWork("src/link"))]).toEqual([
    200,
    undefined,
    false,
  ]);
  const kept = await send(KEEP);
  expect([kept.status, kept.body.toString(), kept.headers["barnraiser-skipped"]]).toEqual([200, "OK", "2"]);
  expect([text("src/link"), text("src/d/up"), readlinkSync(inWork("src/ahead"))]).toEqual([
    "the content", "the content", "not/there",
  ]); // biome-ignore format: a row
  expect((await readdir(inWork("src"))).sort()).toEqual(["ahead", "d", "link", "real"]);
  expect((await send(KEEP)).status).toBe(200); // over what is there
});

test("nothing of an archive is written through a link of the same archive", async () => {
  const outside = join(machine.workDir, "other");
  await mkdir(outside);
  const through = tar(
    { name: "l", type: "symlink", linkName: "../other" },
    { name: "t/l", type: "symlink", linkName: "../other" },
    { name: "t/l/file", content: "x" },
  );
  const reply = await machine.coordinator.fetch({ method: "PUT", path: "/writetgz?dir=.", headers: KEEP }, through);
  expect([reply.status, reply.body.toString()]).toEqual([
    400,
    'Cannot unpack "t/l": it is a link, and a folder has that name\n',
  ]);
  expect(await readdir(outside)).toEqual([]);
  const twice = tar(
    { name: "a", type: "symlink", linkName: "b" },
    { name: "a", content: "x" },
    { name: "b", content: "kept" },
  );
  expect((await machine.coordinator.fetch({ method: "PUT", path: "/writetgz", headers: KEEP }, twice)).status).toBe(
    200,
  );
  expect([text("b"), readlinkSync(inWork("a"))]).toEqual(["kept", "b"]);
});

test("where the system refuses, the peer is told what could not be done, without paths of this machine", async () => {
  await writeFile(inWork("file"), "");
  const told = [
    await put("/write?path=.&mode=420", Buffer.from("x")),
    await put("/write?path=file/x&mode=420", Buffer.from("x")),
    await put("/writetgz?dir=file", tar({ name: "a" })),
    await put("/writetgz", tar({ name: "file/below" })),
    await get("/ls?dir=zz"),
  ];
  expect(told).toEqual([
    [500, 'Cannot write ".": EISDIR: illegal operation on a directory\n'],
    [500, expect.stringMatching(/^Cannot write "file\/x": (EEXIST|ENOTDIR): [\w ]+\n$/)],
    [500, 'Cannot make folder "file": EEXIST: file already exists\n'],
    [500, expect.stringMatching(/^Cannot unpack "file\/below": (EEXIST|ENOTDIR): [\w ]+\n$/)],
    [500, 'Cannot list "zz": ENOENT: no such file or directory\n'],
  ]);
});

test("a file that is cut off on its way leaves the old one, and nothing beside it; a link is written through", async () => {
  expect(await put("/write?path=d/f&mode=420", Buffer.from("old"))).toEqual([200, "OK"]);
  const socket = await machine.coordinator.dial();
  socket.write("PUT /write?path=d/f&mode=420 HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnew\r\n");
  await expect.poll(() => readdir(inWork("d"))).toHaveLength(2);
  socket.destroy();
  await expect.poll(() => readdir(inWork("d"))).toEqual(["f"]);
  expect(text("d/f")).toBe("old");
  await symlink("f", inWork("d/l"));
  expect(await put("/write?path=d/l&mode=420", Buffer.from("through"))).toEqual([200, "OK"]);
  expect([text("d/f"), readlinkSync(inWork("d/l"))]).toEqual(["through", "f"]);
});

test("[coordinator 31] modes and times: 0755 for folders, no setuid, no future", async () => {
  const future = Date.now() / 1000 + 1e6;
  const archive = tar(
    { name: "d/", type: "directory", mode: 0o700 },
    { name: "s", mode: 0o4755 },
    { name: "f", mtime: future },
    { name: "old", mtime: 0 },
  );
  expect((await put("/writetgz", archive))[0]).toBe(200);
  const [d, s, f, old] = await Promise.all(["d", "s", "f", "old"].map((name) => stat(inWork(name))));
  expect([(d?.mode ?? 0) & 0o7777, (s?.mode ?? 0) & 0o7777, old?.mtimeMs]).toEqual([0o755, 0o755, 0]);
  expect(Math.abs((f?.mtimeMs ?? 0) - Date.now())).toBeLessThan(10_000);
  await put("/writetgz", tar({ name: "s", mode: 0o600, content: "new" }));
  expect([(await stat(inWork("s"))).mode & 0o777, text("s")]).toEqual([0o755, "new"]);
});

test("[coordinator 32] [coordinator 33] an archive from a URL, and what goes wrong with it", async () => {
  let fetched = 0;
  const server = createServer((request, response) => {
    fetched++;
    if (request.url === "/moved") response.writeHead(302, { Location: "/good" }).end();
    else if (request.url === "/good") response.end(tar({ name: "from-url", content: "yes" }));
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const from = (path: string, where: string) =>
    post(`/writetgz?dir=${where}`, new URLSearchParams({ url: url + path }).toString());
  expect(await from("/moved", "go1.4")).toEqual([200, "OK"]);
  expect(text("go1.4/from-url")).toBe("yes");
  expect([fetched, await from("/good", "go1.4"), fetched]).toEqual([2, [200, "SKIP"], 2]);
  expect(await from("/missing", "x")).toEqual([500, `Cannot fetch ${url}/missing: the answer is 404 Not Found\n`]);
  await new Promise((resolve) => server.close(resolve));
  expect((await from("/good", "x"))[0]).toBe(500);
  expect(await post("/writetgz?dir=x", "")).toEqual([400, "Cannot fetch: parameter url is missing\n"]);
  expect((await put("/writetgz", Buffer.from("this is not gzip")))[0]).toBe(400);
  expect((await put("/writetgz", gzipSync("this is gzip, but no tar".repeat(99))))[0]).toBe(400);
  expect((await put("/writetgz", tar({ name: "f", content: "x".repeat(9000) }).subarray(0, 90)))[0]).toBe(400);
});

test("a small archive is unpacked whether it comes at once or in pieces, and however large what it holds is", async () => {
  const archive = tar({ name: "d/f", content: "small" }, { name: "zeros", content: "0".repeat(3_000_000) });
  const inPieces = async function* () {
    for (const byte of [archive.subarray(0, 20), archive.subarray(20)]) {
      yield byte;
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  for (const body of [archive, Readable.from(inPieces())]) {
    expect((await put("/writetgz?dir=src", body))[0]).toBe(200);
    expect([text("src/d/f"), text("src/zeros").length]).toEqual(["small", 3_000_000]);
    expect((await post("/removeall", "path=src"))[0]).toBe(200);
    expect(existsSync(inWork("src"))).toBe(false);
  }
});

test("an archive that has come whole is unpacked no further once it is given up", async () => {
  const dir = await mkdtemp(join(tmpdir(), "cut-"));
  const body = Object.assign(new IncomingMessage(new Socket()), { complete: true });
  body.push(tar({ name: "f", content: "x" }));
  body.push(null);
  const limits = { bytes: 1e6, entries: 9 };
  const options = { platform: process.platform, limits, nowSeconds: () => 0, signal: AbortSignal.abort() };
  await expect(unpack(body, dir, options)).rejects.toMatchObject({ status: 500 });
  expect(await readdir(dir)).toEqual([]);
  await rm(dir, { recursive: true });
});

test("an archive that unpacks to more than the limit is 400 and says so", async () => {
  const dir = await mkdtemp(join(tmpdir(), "bomb-"));
  const options = { platform: process.platform, limits: { bytes: 1000, entries: 3 }, nowSeconds: () => 0 };
  const bomb = unpack(
    Readable.from([tar({ name: "small", content: "x" }, { name: "zeros", content: "0".repeat(5000) })]),
    dir,
    options,
  );
  await expect(bomb).rejects.toMatchObject({
    status: 400,
    message: 'Cannot read archive: unpacked it is larger than 1000 bytes (at "zeros")',
  });
  const many = unpack(Readable.from([tar(...["a", "b", "c", "d"].map((name) => ({ name })))]), dir, options);
  await expect(many).rejects.toMatchObject({ status: 400, message: "Cannot read archive: it has more than 3 entries" });
  await rm(dir, { recursive: true });
});

test("a file name that is no UTF-8 arrives as its bytes, and goes back so", async () => {
  expect((await put("/writetgz", tar({ name: "caf\xe9", content: "x" })))[0]).toBe(200);
  expect((await readdir(machine.workDir, { encoding: "latin1" })).includes("caf\xe9")).toBe(true);
  expect((await get("/ls"))[1]).toContain("\tcaf\xe9\t1\t");
});

test("a FIFO that a build left in the way does not stop the agent", async () => {
  const form = { cmd: "mkfifo", args: ["trap"], dir: "", env: [], path: [], system: true, debug: false };
  expect((await post("/exec", encodeExecForm(form)))[0]).toBe(200);
  expect((await put("/writetgz", tar({ name: "trap", content: "x" })))[0]).toBe(500);
  expect((await put("/write?path=trap&mode=420", Buffer.from("x")))[0]).toBe(500);
});

test("a full disk is 500 with the reason", async () => {
  await symlink("/dev/full", inWork("full"));
  expect(await put("/write?path=full&mode=420", Buffer.from("x"))).toEqual([500, expect.stringContaining("ENOSPC")]);
  expect(await put("/writetgz", tar({ name: "full", content: "x" }))).toEqual([500, expect.stringContaining("ENOSPC")]);
});

test("[coordinator 34] /write takes a decimal mode and forces it", async () => {
  expect(await put("/write?path=p/f&mode=493", Buffer.from("one"))).toEqual([200, "OK"]);
  expect([text("p/f"), (await stat(inWork("p/f"))).mode & 0o777]).toEqual(["one", 0o755]);
  expect(await put("/write?path=p/f&mode=384", Buffer.from("2"))).toEqual([200, "OK"]);
  expect([text("p/f"), (await stat(inWork("p/f"))).mode & 0o777]).toEqual(["2", 0o600]);
  for (const query of ["path=f&mode=2147484141", "path=f&mode=rw", "path=f", "path=../f&mode=420", "mode=420"]) {
    expect([query, (await put(`/write?${query}`, Buffer.from("x")))[0]]).toEqual([query, 400]);
  }
  expect((await put("/write?path=p/f/g&mode=420", Buffer.from("x")))[0]).toBe(500);
});

test("[coordinator 35] /tgz gives a folder in members of 1 MiB, cuts the connection where it cannot, and wants a dir", async () => {
  const big = Buffer.alloc(3 * 1024 * 1024 + 17, "barnraiser ");
  await mkdir(inWork("t/sub"), { recursive: true });
  await writeFile(inWork("t/sub/big"), big);
  await writeFile(inWork("t/x.sh"), "#!/bin/sh\n");
  await chmod(inWork("t/x.sh"), 0o751);
  await utimes(inWork("t/x.sh"), 1_600_000_000, 1_600_000_000);
  await symlink("x.sh", inWork("t/link"));
  const reply = await machine.coordinator.fetch({ path: "/tgz?dir=t" });
  const entries = await unpackTar(gunzipSync(reply.body));
  expect(
    entries.map(({ header, data }) => [header.name, header.type, header.linkname ?? "", data?.length ?? 0]),
  ).toEqual([
    ["link", "symlink", "x.sh", 0],
    ["sub/", "directory", "", 0],
    ["sub/big", "file", "", big.length],
    ["x.sh", "file", "", 10],
  ]);
  expect([entries[3]?.header.mode, entries[3]?.header.mtime?.getTime(), Buffer.compare(Buffer.from(entries[2]?.data ?? []), big)]).toEqual([
    0o751, 1_600_000_000_000, 0,
  ]); // biome-ignore format: a row
  let members = 0;
  for (
    let at = reply.body.indexOf("\x1f\x8b\x08", 0, "latin1");
    at !== -1;
    at = reply.body.indexOf("\x1f\x8b\x08", at + 3, "latin1")
  )
    members++;
  expect(members).toBe(4);
  const again = await unpackTar(gunzipSync((await machine.coordinator.fetch({ path: "/tgz?dir=." })).body));
  expect(again.some(({ header }) => header.name === "t/sub/big")).toBe(true);
  expect((await get("/tgz?dir="))[0]).toBe(400);
  expect((await get("/tgz"))[0]).toBe(400);
  expect((await get("/tgz?dir=/etc"))[0]).toBe(400);
  await expect(get("/tgz?dir=nowhere")).rejects.toThrow("socket hang up");
});

test("/tgz beside what runs leaves out what a .gitignore would, and says that it did", async () => {
  for (const name of [
    "s/keep.c",
    "s/keep.o",
    "s/cache/deep/x",
    "s/sub/cache/y",
    "s/sub/important.o",
    "s/Caf\u00e9.log",
  ]) {
    await mkdir(dirname(inWork(name)), { recursive: true });
    await writeFile(inWork(name), name);
  }
  const path = `/tgz?dir=s&${new URLSearchParams(["*.o", "!important.o", "/cache/", "caf\u00e9.log"].map((line) => ["exclude", line]))}`;
  const reply = await machine.coordinator.fetch({ path, headers: { "Barnraiser-Snapshot": "beside" } });
  const names = (await unpackTar(gunzipSync(reply.body))).map(({ header }) => header.name);
  expect([names, reply.headers["barnraiser-snapshot"]]).toEqual([
    ["Caf\u00e9.log", "keep.c", "sub/", "sub/cache/", "sub/cache/y", "sub/important.o"],
    "beside",
  ]);
  const plain = await machine.coordinator.fetch({ path });
  expect([(await unpackTar(gunzipSync(plain.body))).length, plain.headers["barnraiser-snapshot"]]).toEqual([
    10,
    undefined,
  ]);
});

test("pack() of a snapshot leaves out what goes away meanwhile; otherwise that ends the stream", async () => {
  const make = async () => {
    await mkdir(inWork("v/gone/sub"), { recursive: true });
    for (const name of ["a", "b", "gone/sub/c"]) await writeFile(inWork(`v/${name}`), name);
  };
  const packed = async (mayVanish: boolean) => {
    const leaveOut = (name: string) => {
      if (name === "b") rmSync(inWork("v/b"));
      if (name === "gone/sub/") rmSync(inWork("v/gone"), { recursive: true });
      return false;
    };
    const pieces = await Array.fromAsync(pack(inWork("v"), { leaveOut, mayVanish }));
    return (await unpackTar(gunzipSync(Buffer.concat(pieces)))).map(({ header }) => header.name);
  };
  await make();
  expect(await packed(true)).toEqual(["a"]);
  await make();
  await expect(packed(false)).rejects.toThrow("ENOENT");
});

test("a snapshot with links out of the tree: they are packed as links, and where it is unpacked they are left out and counted", async () => {
  await mkdir(inWork("made/lib/real"), { recursive: true });
  await mkdir(inWork("beside"));
  await writeFile(inWork("beside/secret"), "not to be packed");
  await writeFile(inWork("made/lib/real/x"), "content");
  for (const [name, target] of [
    ["inside", "lib/real"],
    ["lib/up", "../lib/real/x"],
    ["above", "../beside"],
    ["absolute", "/etc"],
    ["lib/far", "../../../etc/passwd"],
  ] as const) {
    await symlink(target, inWork(`made/${name}`));
  }
  const headers = { "Barnraiser-Snapshot": "beside" };
  const { body } = await machine.coordinator.fetch({ path: "/tgz?dir=made", headers });
  expect(gunzipSync(body).includes("not to be packed")).toBe(false);
  const reply = await machine.coordinator.fetch({ method: "PUT", path: "/writetgz?dir=helper", headers: KEEP }, body);
  expect([reply.status, reply.headers["barnraiser-skipped"]]).toEqual([200, "3"]);
  expect((await readdir(inWork("helper"), { recursive: true })).sort()).toEqual([
    "inside", "inside/x", "lib", "lib/real", "lib/real/x", "lib/up",
  ]); // biome-ignore format: a row
  expect([text("helper/inside/x"), text("helper/lib/up")]).toEqual(["content", "content"]);
});

test("/tgz of files that are named packs these and nothing else, without those that are gone", async () => {
  await mkdir(inWork("o/deep"), { recursive: true });
  await writeFile(inWork("o/a.xml"), "a");
  await writeFile(inWork("o/deep/caf\u00e9.xml"), "b");
  await writeFile(inWork("o/other"), "not wanted");
  const only = ["a.xml", "deep/caf\u00e9.xml", "gone.xml"].map((name) => ["only", name]);
  const { body } = await machine.coordinator.fetch({ path: `/tgz?dir=o&${new URLSearchParams(only)}` });
  const files = await unpackTar(gunzipSync(body));
  expect(files.map(({ header, data }) => [header.name, Buffer.from(data ?? []).toString()])).toEqual([
    ["a.xml", "a"],
    ["deep/caf\u00e9.xml", "b"],
  ]);
  expect((await get("/tgz?dir=o&only=../secret"))[0]).toBe(400);
  expect(gunzipSync((await machine.coordinator.fetch({ path: "/tgz?dir=nowhere&only=a" })).body)).toHaveLength(1024);
});

test("/ls lists as many levels as are asked for", async () => {
  await mkdir(inWork("n/a/b"), { recursive: true });
  for (const file of ["n/1", "n/a/2", "n/a/b/3"]) await writeFile(inWork(file), "");
  const names = async (query: string) =>
    (await get(`/ls?dir=n&${query}`))[1].split("\n").flatMap((line) => line.split("\t")[1] ?? []);
  expect(await names("recursive=true&depth=2")).toEqual(["1", "a/", "a/2", "a/b/"]);
  expect(await names("recursive=true&depth=1")).toEqual(await names(""));
  expect(await names("recursive=true")).toHaveLength(5);
});

test("what /tgz gives /writetgz takes", async () => {
  await mkdir(inWork("from/a/b"), { recursive: true });
  await writeFile(inWork("from/a/b/c"), "content");
  const { body } = await machine.coordinator.fetch({ path: "/tgz?dir=from" });
  expect(await put("/writetgz?dir=to", body)).toEqual([200, "OK"]);
  expect(text("to/a/b/c")).toBe("content");
});

test("[coordinator 37] [coordinator 38] [gomote 27] /ls lines, with digest, and skip", async () => {
  await mkdir(inWork("l/d"), { recursive: true });
  await writeFile(inWork("l/d/x.sh"), "hello");
  await chmod(inWork("l/d/x.sh"), 0o755);
  const at = new Date("2026-11-23T17:00:05Z");
  await utimes(inWork("l/d/x.sh"), at, at);
  await writeFile(inWork("l/e"), "");
  await utimes(inWork("l/e"), at, at);
  await symlink("e", inWork("l/link"));
  const sha1 = createHash("sha1").update("hello").digest("hex");
  expect(await get("/ls?dir=l&recursive=true&digest=true")).toEqual([
    200,
    `drwxr-xr-x\td/\n-rwxr-xr-x\td/x.sh\t5\t2026-11-23T17:00:05Z\t${sha1}\n` +
      `-rw-r--r--\te\t0\t2026-11-23T17:00:05Z\tda39a3ee5e6b4b0d3255bfef95601890afd80709\nLrwxrwxrwx\tlink\n`,
  ]);
  expect((await get("/ls?dir=l"))[1].split("\n").map((line) => line.split("\t")[1])).toEqual([
    "d/",
    "e",
    "link",
    undefined,
  ]);
  expect((await get("/ls?dir=l&recursive=1&skip=d"))[1]).toBe(
    "-rw-r--r--\te\t0\t2026-11-23T17:00:05Z\nLrwxrwxrwx\tlink\n",
  );
  expect((await get("/ls?dir=l&skip=d&nul=true"))[1]).toBe(
    "-rw-r--r--\te\t0\t2026-11-23T17:00:05Z\0Lrwxrwxrwx\tlink\0",
  );
  await mkdir(inWork("l/p/d"), { recursive: true });
  await writeFile(inWork("l/p/d/y"), "");
  const names = (await get("/ls?dir=l&recursive=true&skip-name=d&skip-name=e"))[1].match(/^[^\t]+\t[^\t\n]+/gm);
  expect(names).toEqual(["-rw-r--r--\te", "Lrwxrwxrwx\tlink", "drwxr-xr-x\tp/"]);
  expect((await get("/ls?dir=l/e"))[1]).toBe("-rw-r--r--\t\t0\t2026-11-23T17:00:05Z\n");
  expect((await get("/ls"))[1]).toContain("\tl/\n");
  expect((await get("/ls?dir=nowhere"))[0]).toBe(500);
  expect((await get("/ls?dir=.."))[0]).toBe(400);
});

test("[coordinator 39] /removeall checks all paths first; `.` empties the work dir and the next exec works", async () => {
  await writeFile(inWork("keep"), "");
  expect((await post("/removeall", "path=keep&path=../x"))[0]).toBe(400);
  expect(existsSync(inWork("keep"))).toBe(true);
  expect((await post("/removeall", ""))[0]).toBe(400);
  await mkdir(inWork("ro/sub"), { recursive: true });
  await chmod(inWork("ro"), 0o500);
  expect(await post("/removeall", "path=missing&path=ro&path=keep/below")).toEqual([200, ""]);
  expect([existsSync(inWork("ro")), existsSync(inWork("keep"))]).toEqual([false, true]);
  expect(await post("/removeall?path=.", "")).toEqual([200, ""]);
  expect(existsSync(machine.workDir)).toBe(false);
  expect(await get("/ls?dir=.")).toEqual([200, ""]);
  const form = { cmd: "/bin/sh", args: ["-c", "ls; pwd"], dir: "", env: [], path: [], system: true, debug: false };
  expect((await post("/exec", encodeExecForm(form)))[1]).toBe(`gocache\ngoplscache\ntmp\n${machine.workDir}\n`);
});

test("/removeall waits for one that is under way, though whoever asked for that has hung up", async () => {
  const deep = `deep${"/d".repeat(500)}`; // takes a while, one folder after the other
  await mkdir(inWork(deep), { recursive: true });
  const socket = await machine.coordinator.dial();
  socket.write("POST /removeall?path=deep HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n\r\n");
  await vi.waitFor(() => expect(existsSync(inWork(deep))).toBe(false), { interval: 1, timeout: 30_000 });
  socket.destroy();
  expect(await post("/removeall", "path=missing")).toEqual([200, ""]);
  expect(existsSync(inWork("deep"))).toBe(false);
});

test("[coordinator 27] /status is answered at once while 200 MB come in and a command runs", async () => {
  const socket = await machine.coordinator.dial();
  const form = encodeExecForm({
    cmd: "/bin/sh",
    args: ["-c", "yes"],
    dir: "/",
    env: [],
    path: [],
    system: false,
    debug: false,
  });
  const head = "POST /exec HTTP/1.1\r\nHost: m\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length:";
  socket.on("data", () => {});
  socket.write(`${head} ${form.length}\r\n\r\n${form}`);
  const content = "0123456789abcdef".repeat(64 * 1024);
  const body = new PassThrough();
  const upload = put("/writetgz", body);
  const waits: number[] = [];
  let uploaded = false;
  const asking = (async () => {
    while (!uploaded) {
      const began = performance.now();
      expect((await get("/status"))[1]).toBe('{"Version":29}');
      waits.push(performance.now() - began);
    }
  })();
  for (let i = 0; i < 200; i++) {
    const member = gzipSync(
      Buffer.concat([
        tarHeader({ type: "file", name: `f${i}`, mode: 0o644, mtime: 1, size: content.length }),
        Buffer.from(content),
      ]),
      { level: 1 },
    );
    if (!body.write(member)) await new Promise((resolve) => body.once("drain", resolve));
  }
  body.end(gzipSync(tarEnd()));
  expect(await upload).toEqual([200, "OK"]);
  uploaded = true;
  await asking;
  socket.destroy();
  expect(waits.length).toBeGreaterThan(3);
  expect(Math.max(...waits)).toBeLessThan(5000);
});

test("a coordinator that vanishes in the middle of an upload leaves an agent that works", async () => {
  await using other = await TestMachine.start();
  const { coordinator } = other;
  const socket = await coordinator.dial();
  const archive = gzipSync(
    Buffer.concat([tarHeader({ type: "file", name: "half", mode: 0o644, mtime: 1, size: 1e6 }), Buffer.alloc(5e5, 1)]),
  );
  socket.write(
    `PUT /writetgz HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n${archive.length.toString(16)}\r\n`,
  );
  socket.write(archive);
  await coordinator.until(() => existsSync(join(other.workDir, "half")));
  socket.destroy();
  expect((await coordinator.fetch({ path: "/status" })).status).toBe(200);
  coordinator.control?.destroy();
  await other.ended;
});
