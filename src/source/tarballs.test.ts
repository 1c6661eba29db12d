import { chmod, symlink } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { gunzipSync } from "node:zlib";
import { unpackTar } from "modern-tar";
import { expect, test } from "vitest";
import { Bench } from "./testing/bench.ts";
import { TestRepository } from "./testing/repository.ts";

async function benchWith(): Promise<{ bench: Bench; repo: TestRepository }> {
  const bench = await Bench.make();
  return { bench, repo: await TestRepository.init(join(bench.folder, "origin")) };
}

async function entries(bench: Bench, hash: string): Promise<Record<string, string>> {
  const packed = await buffer(await (await bench.source.tarball("app", hash)).open());
  const unpacked = await unpackTar(gunzipSync(packed));
  return Object.fromEntries(
    unpacked
      .filter(({ header }) => header.type !== "pax-global-header")
      .map(({ header, data }) => {
        const mode = ((header.mode ?? 0) & 0o111) !== 0 ? "x" : "-";
        return [
          header.name,
          header.type === "symlink" ? `-> ${header.linkname}` : `${mode} ${Buffer.from(data ?? []).toString()}`,
        ];
      }),
  );
}

test("a tarball holds the tree as a checkout would have it, attributes or not", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  await symlink("sub/file.txt", join(repo.path, "link"));
  await symlink("/etc/passwd", join(repo.path, "out"));
  const first = await repo.commit("one", {
    ".gitattributes": "secret.txt export-ignore\nversion.txt export-subst\n*.lfs filter=lfs\n*.bat text eol=crlf\n",
    "sub/file.txt": "content",
    "secret.txt": "still here",
    "version.txt": "$Format:%H$",
    "big.lfs": "pointer",
    "run.bat": "a\nb\n",
    [`${"long/".repeat(40)}ü ñ.txt`]: "deep",
    "run.sh": "#!/bin/sh\n",
  });
  await chmod(join(repo.path, "run.sh"), 0o755);
  const second = await repo.commit("two");
  await bench.open([{ name: "app", url: "origin" }]);
  const tree = await entries(bench, second);
  const files = Object.fromEntries(Object.entries(tree).filter(([name]) => !name.endsWith("/")));
  expect(files).toEqual({
    ".gitattributes": expect.any(String),
    link: "-> sub/file.txt",
    out: "-> /etc/passwd",
    "sub/file.txt": "- content",
    "secret.txt": "- still here",
    "version.txt": "- $Format:%H$",
    "big.lfs": "- pointer",
    "run.bat": "- a\r\nb\r\n",
    [`${"long/".repeat(40)}ü ñ.txt`]: "- deep",
    "run.sh": "x #!/bin/sh\n",
  });
  expect((await entries(bench, first))["run.sh"]).toBe("- #!/bin/sh\n");
});

test("a tarball is made once for all who ask and is the same after a restart", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  const hash = await repo.commit("one", { f: "x".repeat(100_000) });
  await bench.open([{ name: "app", url: "origin" }]);
  const asked = await Promise.all([1, 2, 3].map(async () => (await bench.source.tarball("app", hash)).written));
  await bench.open([{ name: "app", url: "origin" }]);
  const again = await bench.source.tarball("app", hash);
  expect(new Set([...asked, await again.written].map((t) => t.digest)).size).toBe(1);
  expect((await buffer(await again.open())).length).toBe((await again.written).bytes);
});

test("what cannot be packed says why: no such commit, no hash, too large, given up", async () => {
  const { bench, repo } = await benchWith();
  await using _ = bench;
  const hash = await repo.commit("one", { f: Array.from({ length: 20_000 }, (_, i) => (i * 7919) % 10_007).join() });
  await bench.open([{ name: "app", url: "origin" }], { maxTarballBytes: 10_000 });
  const refused = (given: string, signal?: AbortSignal) =>
    bench.source
      .tarball("app", given, signal)
      .then((t) => t.written)
      .catch((error: unknown) => error);
  expect(await refused("0".repeat(40))).toMatchObject({
    code: "not-found",
    message: `Cannot pack the source of "app" at "000000000000": the farm's mirror has no such commit`,
  });
  expect(await refused("--output=/tmp/x")).toMatchObject({
    code: "bad-request",
    message: 'Cannot pack the source of "app" at "--output=/tmp/x": want a whole commit hash',
  });
  expect(await refused(hash)).toMatchObject({
    code: "too-large",
    message: `Cannot pack the source of "app" at "${hash.slice(0, 12)}": it is over the limit of 10000 bytes, packed`,
  });
  const reason = new Error("canceled");
  expect(await refused(hash, AbortSignal.abort(reason))).toBe(reason);
  expect(await refused(hash)).toMatchObject({ code: "too-large" });
});
