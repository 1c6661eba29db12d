import { createHash, randomBytes } from "node:crypto";
import type { ServerResponse } from "node:http";
import { gunzipSync } from "node:zlib";
import { expect, test, vi } from "vitest";
import { LEAVE_FREE } from "../../builds/snapshots.ts";
import { coordinatorId, minutes, seconds } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { until } from "../../farm/testing/until.ts";
import { TREE } from "../../machines/testing/original-buildlet.ts";
import { findTransfer, TRANSFER_BLOBS } from "../../store/transfers.ts";
import { type GomoteFarm, gomoteFarm, HOST_TYPE } from "../testing/farm.ts";
import { get, getBegun, type Part, post, postBegun } from "../testing/http-form.ts";
import { type Ended, OK, type RpcClient } from "../testing/rpc-client.ts";
import { AT_A_TIME } from "./fetch-turns.ts";
import { STALL } from "./meter.ts";
import { EXPIRY } from "./transfers.ts";

const CODE = { invalid: 3, denied: 7, precondition: 9, aborted: 10 } as const;

interface Place {
  readonly url: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly object_name: string;
}

const placeFor = async (client: RpcClient) => (await client.call<Place>("UploadFile")) as Place;
const fieldsOf = ({ fields }: Place): Part[] => Object.entries(fields);
const digestOf = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
const codeOf = (answer: unknown) => (answer as Ended).code;
const textOf = async (answer: ReturnType<typeof get>) => [(await answer).status, (await answer).body.toString()];

/** Alice with an instance. */
async function withInstance(farm: GomoteFarm) {
  const machine = await farm.machines.machine();
  const alice = await farm.person("alice@example.org");
  const call = alice.stream<{ instance: { gomote_id: string } | null }>("CreateInstance", { builder_type: HOST_TYPE });
  expect((await call.ended).code).toBe(OK);
  const gomote_id = call.messages.at(-1)?.instance?.gomote_id ?? "";
  machine.calls.length = 0;
  machine.digests.length = 0;
  return { machine, alice, gomote_id };
}

/** Nothing is left of what did not come whole. */
async function expectNothingKept(farm: GomoteFarm): Promise<void> {
  await until(async () => (await farm.database.sql.query("select from gomote_transfer")).length === 0, "no row");
  expect(await farm.blobs.list(TRANSFER_BLOBS)).toEqual([]);
}

/** A URL is there before all of its archive is, and all of it is fetched before the database knows. */
async function expectArrived(farm: GomoteFarm): Promise<void> {
  const arriving = () => farm.database.sql.query("select from gomote_transfer where state = 'arriving'");
  await until(async () => (await arriving()).length === 0, "everything to be whole");
}

test("[gomote 29] [gomote 30] [gomote 31] a form with its fields in any order is taken with 204, and its file put on the machine", async () => {
  await using farm = await gomoteFarm();
  const { machine, alice, gomote_id } = await withInstance(farm);
  const bytes = randomBytes(3 << 20);
  for (const order of ["as given", "the other way round"]) {
    const place = await placeFor(alice);
    expect(place.url).toBe(`https://localhost:${farm.machines.port}/gomote/files/`);
    const fields = order === "as given" ? fieldsOf(place) : fieldsOf(place).reverse();
    const { status, body } = await post(place.url, [...fields, ["also", "ignored"], ["file", bytes]]);
    expect([status, body.length]).toEqual([204, 0]);
    const url = place.url + place.object_name;
    expect(await alice.call("WriteFileFromURL", { gomote_id, url, filename: "d/f", mode: 0o755 })).toEqual({});
    expect(await alice.call("WriteTGZFromURL", { gomote_id, url, directory: "go" })).toEqual({});
  }
  expect(new Set(machine.digests)).toEqual(new Set([digestOf(bytes)]));
  const calls = ["PUT /write path=d%2Ff&mode=493", "PUT /writetgz dir=go"];
  expect(machine.calls).toEqual([...calls, ...calls]);
});

test("a form may be posted to the plain port too, and an empty file is a file", async () => {
  await using farm = await gomoteFarm();
  const alice = await farm.person("alice@example.org");
  const place = await placeFor(alice);
  const plain = `http://localhost:${farm.machines.door.ports.http}${new URL(place.url).pathname}`;
  expect((await post(plain, [...fieldsOf(place), ["file", ""]])).status).toBe(204);
  expect(await findTransfer(farm.database.sql, place.object_name)).toMatchObject({ bytes: 0, fileName: null });
});

test("the original command on the coordinator's own computer is given the plain port, since it would take no certificate of ours", async () => {
  await using farm = await gomoteFarm();
  const alice = await farm.people.add("alice@example.org", ["member"], "test");
  const { token } = await farm.people.newToken(alice, "test", minutes(60), "test");
  const place = await placeFor(farm.client(token, "grpc-go/1.67.1"));
  expect(place.url).toBe(`http://localhost:${farm.machines.door.ports.http}/gomote/files/`);
  expect((await post(place.url, [...fieldsOf(place), ["file", "x"]])).status).toBe(204);
  expect((await placeFor(farm.client(token))).url).toMatch(/^https:/);
});

test("where the farm is reached is taken from a coordinator alone: whoever else says so is not believed, and needs a token first", async () => {
  await using farm = await gomoteFarm();
  const alice = await farm.people.add("alice@example.org", ["member"], "test");
  const { token } = await farm.people.newToken(alice, "test", minutes(60), "test");
  for (const origin of ["x", "https://evil.example.org"]) {
    const fields = { "barnraiser-origin": origin, "barnraiser-origin-signed": "x" };
    expect(codeOf(await farm.client(undefined, "", fields).call("UploadFile"))).toBe(16);
    const { url } = await placeFor(farm.client(token, "", fields));
    expect(url).toBe(`https://localhost:${farm.machines.port}/gomote/files/`);
  }
});

test("a form that is not as it should be is refused with a sentence, and nothing of it is kept", async () => {
  await using farm = await gomoteFarm({ config: { gomote: { transferLimit: "64KiB" } } });
  const alice = await farm.person("alice@example.org");
  const place = await placeFor(alice);
  const { url } = place;
  const fields = fieldsOf(place);
  const file: Part = ["file", Buffer.alloc(1000)];
  const without = (name: string) => fields.filter(([each]) => each !== name);
  const said = async (parts: readonly Part[], type?: string) => {
    const { status, body } = await post(url, parts, type);
    return `${status} ${body.toString().trim()}`;
  };
  expect([
    await said([...without("signature"), file]),
    await said([file, ...fields]),
    await said([...fields, file, ["late", "x"]]),
    await said([...fields, file, file]),
    await said(fields),
    await said([...fields, ["other", Buffer.alloc(1)], ["x".repeat(10), "y".repeat(2000)], file]),
    await said([...fields, file], "application/json"),
    await said([...fields, file], "multipart/form-data; boundary=other"),
    await said([...without("owner"), ["owner", "U000000000"], file]),
    await said([...without("expires"), ["expires", "99999999999999"], file]),
    await said([...fields, ["file", Buffer.alloc(3 << 20)]]),
  ]).toEqual([
    '400 Cannot upload: the field signature is missing; all fields have to come before "file".',
    '400 Cannot upload: the field key is missing; all fields have to come before "file".',
    '400 Cannot upload: the field "late" stands behind the file; "file" has to be the last.',
    '400 Cannot upload: want one file, in the last part, which is named "file".',
    '400 Cannot upload: the form has no file; want a part named "file".',
    '400 Cannot upload: the field "xxxxxxxxxx" is longer than 1024 bytes.',
    '400 Cannot upload: its type is "application/json", want multipart/form-data with a boundary.',
    "400 Cannot upload: the form cannot be read: Unexpected end of multipart data.",
    "403 Cannot upload: this farm did not sign the URL, or it was changed since.",
    "403 Cannot upload: this farm did not sign the URL, or it was changed since.",
    "413 Cannot take the upload: it is larger than the limit of 64 KiB.",
  ]);
  await expectNothingKept(farm);
  expect(await textOf(get(url))).toEqual([405, "Only POST here.\n"]);
  expect((await get(`${url}${place.object_name}`)).status).toBe(404);
  // What was refused left the form as good as new.
  expect(await said([...fields, file])).toBe("204 ");
  expect(await said([...fields, file])).toMatch(/^409 .* used before/);
});

test("an upload that never ends leaves nothing, and its form is good for another attempt", async () => {
  await using farm = await gomoteFarm();
  const alice = await farm.person("alice@example.org");
  const place = await placeFor(alice);
  const { request, answer } = postBegun(place.url, [...fieldsOf(place), ["file", Buffer.alloc(1 << 20)]]);
  const row = () => findTransfer(farm.database.sql, place.object_name);
  await until(async () => (await row()) !== undefined, "the upload to begin");
  expect((await post(place.url, [...fieldsOf(place), ["file", "again"]])).status).toBe(409);
  request.destroy();
  await expect(answer).rejects.toThrow();
  await expectNothingKept(farm);
  expect((await post(place.url, [...fieldsOf(place), ["file", "again"]])).status).toBe(204);
  expect(await row()).toMatchObject({ bytes: 5 });
});

test("an upload in which nothing moves is given up, before its file and in it", async () => {
  const clock = new FakeClock();
  await using farm = await gomoteFarm({ clock });
  const alice = await farm.person("alice@example.org");
  const place = await placeFor(alice);
  const begun = async () => (await farm.database.sql.query("select from gomote_transfer")).length === 1;
  for (const parts of [fieldsOf(place), [...fieldsOf(place), ["file", Buffer.alloc(1 << 20)] as const]]) {
    const asleep = clock.sleeping;
    const { request, answer } = postBegun(place.url, parts);
    await until(() => clock.sleeping > asleep, "it to be watched");
    if (parts.length > 4) await until(begun, "the upload to begin");
    let over = false;
    void answer.finally(() => {
      over = true;
    });
    await until(async () => {
      await clock.advance(STALL);
      return over;
    }, "it to be given up");
    expect(await textOf(answer)).toEqual([504, "Gave up the upload: nothing moved for 60 s.\n"]);
    request.destroy();
    await expectNothingKept(farm);
  }
});

test("of 33 files that arrive at once the last is refused, and when all have ended, whichever way, nothing of them is on its way", async () => {
  const MIB = 1 << 20;
  await using farm = await gomoteFarm();
  const alice = await farm.person("alice@example.org");
  let left = 4 * MIB;
  vi.spyOn(farm.blobs, "free").mockImplementation(async () => LEAVE_FREE + left);
  const upload = async (bytes: number) => {
    const place = await placeFor(alice);
    return await textOf(post(place.url, [...fieldsOf(place), ["file", Buffer.alloc(bytes)]]));
  };
  // More than there ever is room for at a time: what is written needs none any more.
  expect(await upload(12 * MIB)).toEqual([204, ""]);

  const begun = [];
  for (let n = 0; n < 32; n++) {
    const place = await placeFor(alice);
    begun.push(postBegun(place.url, [...fieldsOf(place), ["file", "some of it"]]));
  }
  const rows = () => farm.database.sql.query("select from gomote_transfer where state = 'arriving'");
  await until(async () => (await rows()).length === 32, "all to begin");
  expect(await upload(1)).toEqual([413, expect.stringContaining("32 are on their way, and 32 may be at a time")]);
  for (const { request } of begun.slice(16)) request.destroy();
  for (const { request } of begun.slice(0, 16)) request.end("--b0a2c4--\r\n");
  for (const { answer } of begun.slice(0, 16)) expect((await answer).status).toBe(204);
  await until(async () => (await rows()).length === 0, "all to end");
  for (let n = 0; n < 32; n++) expect(await upload(1)).toEqual([204, ""]);
  left = 0;
  while ((await upload(MIB))[0] === 204); // what the last look was good for
  expect(await upload(1)).toEqual([
    503,
    "The coordinator's disk has only 1 GiB left, and leaves 1 GiB free; try again later.\n",
  ]);
});

test("[gomote 32] a form and a URL that are older than ten minutes are refused, and what was kept is no more", async () => {
  const clock = new FakeClock();
  await using farm = await gomoteFarm({ clock });
  const { alice, gomote_id } = await withInstance(farm);
  const [used, unused] = [await placeFor(alice), await placeFor(alice)];
  expect((await post(used.url, [...fieldsOf(used), ["file", "x"]])).status).toBe(204);
  const { url } = (await alice.call("ReadTGZToURL", { gomote_id, directory: "." })) as { url: string };
  const write = { gomote_id, url: used.url + used.object_name, filename: "f" };
  // What still arrives when time leaps is given up as stalled.
  await expectArrived(farm);

  await clock.advance(EXPIRY);
  expect(await alice.call("WriteFileFromURL", write)).toEqual({});
  expect((await get(url)).status).toBe(200);
  await clock.advance(seconds(1));
  expect(await textOf(post(unused.url, [...fieldsOf(unused), ["file", "x"]]))).toEqual([
    410,
    "Cannot upload: the URL expired at 2026-11-23T12:10:00.000Z; ask for another.\n",
  ]);
  expect(await textOf(get(url))).toEqual([
    410,
    "Cannot download: the URL expired at 2026-11-23T12:10:00.000Z; ask for another.\n",
  ]);
  expect(codeOf(await alice.call("WriteFileFromURL", write))).toBe(CODE.aborted);
  expect(codeOf(await alice.call("WriteTGZFromURL", { gomote_id, url: write.url }))).toBe(CODE.precondition);
});

test("what somebody uploaded is nobody else's, and paths and URLs that lead elsewhere are refused", async () => {
  await using farm = await gomoteFarm();
  const { machine, alice, gomote_id } = await withInstance(farm);
  const bob = await farm.person("bob@example.org");
  const place = await placeFor(bob);
  expect((await post(place.url, [...fieldsOf(place), ["file", "bob's"]])).status).toBe(204);
  const write = { gomote_id, url: place.url + place.object_name, filename: "f" };
  // By whatever name the farm goes, and whatever stands behind it.
  for (const url of [
    write.url,
    `http://elsewhere.example/gomote/files/${place.object_name}?x#y`,
    `${write.url}/name`,
  ]) {
    expect(codeOf(await alice.call("WriteFileFromURL", { ...write, url }))).toBe(CODE.denied);
    expect(codeOf(await alice.call("WriteTGZFromURL", { gomote_id, url }))).toBe(CODE.denied);
  }
  const mine = await placeFor(alice);
  const nothing = mine.url + mine.object_name;
  expect(codeOf(await alice.call("WriteFileFromURL", { ...write, url: nothing }))).toBe(CODE.aborted);
  expect((await post(mine.url, [...fieldsOf(mine), ["file", "alice's"]])).status).toBe(204);
  const named = async (filename: string) =>
    codeOf(await alice.call("WriteFileFromURL", { ...write, url: nothing, filename }));
  expect([await named("../f"), await named("a/../../f"), await named("/f"), await named("")]).toEqual(
    Array(4).fill(CODE.invalid),
  );
  for (const directory of ["..", "/", "a/../.."])
    expect(codeOf(await alice.call("ReadTGZToURL", { gomote_id, directory }))).toBe(CODE.invalid);
  expect([machine.calls, farm.world.connections]).toEqual([[], []]);
});

test("[gomote 40] an archive is fetched without credentials, and begins while the machine still packs it", async () => {
  await using farm = await gomoteFarm();
  const { machine, alice, gomote_id } = await withInstance(farm);
  const rest = Promise.withResolvers<void>();
  machine.behave.tgz = () => rest.promise;
  const { url } = (await alice.call("ReadTGZToURL", { gomote_id, directory: "" })) as { url: string };
  expect(machine.calls).toEqual(["GET /ls dir=.&recursive=false&digest=false", "GET /tgz dir=."]);
  const fetched = get(url);
  const head = await get(url, "HEAD");
  expect([head.status, head.headers["content-disposition"], head.headers["cache-control"]]).toEqual([
    200,
    `attachment; filename="${gomote_id}.tar.gz"; filename*=UTF-8''${gomote_id}.tar.gz`,
    "no-store",
  ]);
  const answer = alice.call("InstanceAlive", { gomote_id });
  rest.resolve();
  expect(await answer).toEqual({});
  const whole = await fetched;
  expect(gunzipSync(whole.body).equals(TREE)).toBe(true);
  await expectArrived(farm);
  const again = await get(url);
  expect([again.body.equals(whole.body), again.headers["content-length"]]).toEqual([true, String(whole.body.length)]);
  // It can go to another machine of its owner's without being downloaded; a changed URL is nobody's.
  expect(await alice.call("WriteTGZFromURL", { gomote_id, url, directory: "copy" })).toEqual({});
  expect(machine.digests).toEqual([digestOf(whole.body)]);
  expect(await textOf(get(url.replace(/expires=\d+/, "expires=99999999999999")))).toEqual([
    403,
    "Cannot download: this farm did not sign the URL, or it was changed since.\n",
  ]);
});

test("a folder that is not there, and what is none, is told as that, and never packed", async () => {
  await using farm = await gomoteFarm();
  const { machine, alice, gomote_id } = await withInstance(farm);
  const read = (directory: string) => alice.call("ReadTGZToURL", { gomote_id, directory });
  machine.behave.missing = "gone";
  const gone = {
    code: CODE.aborted,
    details: `There is no "gone" on ${gomote_id}: it was deleted, or has another name.`,
  };
  expect(await read("gone")).toEqual(gone);
  expect(await alice.call("ListDirectory", { gomote_id, directory: "gone" })).toEqual(gone);
  machine.behave.ls = "-rw-r--r--\t\t3\t2026-11-23T17:00:05Z\n";
  expect(await read("go/VERSION")).toEqual({
    code: CODE.aborted,
    details: `Cannot read "go/VERSION" of ${gomote_id} as a folder: it is a file, or a link.`,
  });
  expect(machine.calls.filter((call) => call.startsWith("GET /tgz"))).toEqual([]);
});

test("a machine that breaks off ends a download short, never as if it were whole", async () => {
  await using farm = await gomoteFarm();
  const { machine, alice, gomote_id } = await withInstance(farm);
  const cut = Promise.withResolvers<void>();
  machine.behave.tgz = () => cut.promise;
  const { url } = (await alice.call("ReadTGZToURL", { gomote_id, directory: "." })) as { url: string };
  const { begun, answer } = getBegun(url);
  await begun;
  cut.reject(new Error("the disk failed"));
  await expect(answer).rejects.toThrow();
  await expectNothingKept(farm);
  expect((await get(url)).status).toBe(404);
});

test("with several coordinators any of them takes the form, and any of them gives the archive, also while it arrives", async () => {
  await using first = await gomoteFarm();
  const { machine, alice, gomote_id } = await withInstance(first);
  await using second = await gomoteFarm({ database: first.database, coordinator: coordinatorId("P0000000bb") });
  const elsewhere = await second.person("alice@example.org");
  const place = await placeFor(elsewhere);
  const bytes = randomBytes(100_000);
  expect((await post(place.url, [...fieldsOf(place), ["file", bytes]])).status).toBe(204);
  expect((await second.blobs.list(TRANSFER_BLOBS)).length).toBe(1);
  const write = { gomote_id, url: place.url + place.object_name, filename: "f" };
  expect(await alice.call("WriteFileFromURL", write)).toEqual({});
  expect(await elsewhere.call("WriteFileFromURL", write)).toEqual({});
  expect(machine.digests).toEqual([digestOf(bytes), digestOf(bytes)]);

  const rest = Promise.withResolvers<void>();
  machine.behave.tgz = () => rest.promise;
  const { url } = (await elsewhere.call("ReadTGZToURL", { gomote_id, directory: "." })) as { url: string };
  // The call was passed on to the other coordinator; the URL is good where the caller is.
  expect(new URL(url).port).toBe(String(second.machines.port));
  const fetched = get(url);
  rest.resolve();
  expect(gunzipSync((await fetched).body).equals(TREE)).toBe(true);
});

test("of one person's fetches from elsewhere a few go on at a time, others wait for them and may leave; another person has theirs", async () => {
  await using farm = await gomoteFarm();
  const { alice, gomote_id } = await withInstance(farm);
  const held: ServerResponse[] = [];
  farm.world.pages.set("a.example/slow", (_, response) => held.push(response));
  const fetch = { gomote_id, url: "http://a.example/slow", filename: "f" };
  const calls = Array.from({ length: AT_A_TIME + 2 }, () => alice.stream("WriteFileFromURL", fetch));
  await until(() => held.length === AT_A_TIME, "as many as may");
  const again = await farm.person("alice@example.org");
  const left = again.stream("WriteFileFromURL", fetch);
  left.cancel();
  for (let n = 0; n < AT_A_TIME + 2; n++) {
    await until(() => held.length > n, "the next");
    expect(held.length).toBeLessThanOrEqual(n + AT_A_TIME);
    held[n]?.end("bytes");
  }
  expect((await Promise.all(calls.map(({ ended }) => ended))).map(({ code }) => code)).toEqual(
    Array(AT_A_TIME + 2).fill(OK),
  );
});
