import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { createServer } from "node:tls";
import { expect, test } from "vitest";
import { FarmError } from "../../farm/errors.ts";
import { epochMs } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { until } from "../../farm/testing/until.ts";
import { systemClock } from "../../store/system-clock.ts";
import { certificate } from "../../web/certificate.ts";
import { PUBLIC_ADDRESS, TestWorld } from "../testing/test-world.ts";
import { ANSWER_LIMIT, guardedFetch, HOPS, worldAround } from "./guarded-fetch.ts";
import { STALL } from "./meter.ts";
import { isPublicAddress } from "./public-address.ts";

const never = new AbortController().signal;
const LIMIT = 1 << 20;
const PORTS = [80, 443, 8080, 8443];

function fetched(world: TestWorld, url: string, clock = systemClock): Promise<string> {
  return guardedFetch(url, { clock, world, limitBytes: LIMIT, ports: PORTS }, never).then(async (body) => {
    const bytes = await buffer(body).catch((error: unknown) => error);
    return bytes instanceof Buffer ? bytes.toString() : codeOf(bytes);
  }, codeOf);
}

function codeOf(error: unknown): string {
  return error instanceof FarmError ? error.code : String(error);
}

test("only addresses of the world are public, in whatever way others are written", () => {
  const own = [
    ..."0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255".split(
      " ",
    ),
    ..."192.0.0.1 192.0.2.1 192.168.1.1 192.88.99.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1".split(" "),
    ..."255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 ::ffff:0:127.0.0.1".split(
      " ",
    ),
    ..."64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1::1 2002:a00:1::".split(
      " ",
    ),
    ..."fc00::1 fd12:3456::1 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1 5f00::1 1::1 4000::1".split(" "),
    ..."localhost 127.1 2130706433 0x7f000001 0177.0.0.1".split(" "),
  ];
  expect(own.filter(isPublicAddress)).toEqual([]);
  const world = ["8.8.8.8", PUBLIC_ADDRESS, "172.15.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::1"];
  expect(world.filter((address) => !isPublicAddress(address))).toEqual([]);
});

test("what a URL calls an address is refused before anybody is connected to, and so is a name that leads there", async () => {
  await using world = await TestWorld.start();
  world.names.set("inside.example", () => ["10.1.2.3"]);
  world.names.set("mixed.example", () => [PUBLIC_ADDRESS, "fd00::1"]);
  world.names.set("mine.example", () => ["203.0.114.9"]);
  world.names.set("localhost.", () => ["127.0.0.1"]);
  world.mine.push("203.0.114.9");
  const refused = [
    ..."127.0.0.1 127.1 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 0 0.0.0.0 [::1] [::] [::ffff:127.0.0.1]".split(
      " ",
    ),
    ..."[::ffff:7f00:1] [64:ff9b::7f00:1] [2002:7f00:1::] [fd00::1] [fe80::1] 169.254.169.254 ①②⑦.⓪.⓪.① localhost.".split(
      " ",
    ),
    ..."inside.example mixed.example mine.example".split(" "),
  ];
  for (const host of refused) {
    expect([host, await fetched(world, `http://${host}/`)]).toEqual([host, "forbidden"]);
    expect([host, await fetched(world, `https://${host}:8443/`)]).toEqual([host, "forbidden"]);
  }
  for (const url of [
    "",
    "x",
    "/x",
    "file:///etc/passwd",
    "ftp://a.example/",
    "gopher://a.example/",
    "http://a:b@a.example/",
  ])
    expect([url, await fetched(world, url)]).toEqual([url, "bad-request"]);
  world.names.set("nobody.example", () => []);
  expect(await fetched(world, "http://nobody.example/")).toBe("not-found");
  expect(world.connections).toEqual([]);
});

test("a name is asked for once, and the connection goes to what was looked at, whatever is said afterwards", async () => {
  await using world = await TestWorld.start();
  world.put("rebind.example/x", "the world's");
  let asked = 0;
  world.names.set("rebind.example", () => [asked++ === 0 ? PUBLIC_ADDRESS : "127.0.0.1"]);
  expect(await fetched(world, "http://rebind.example/x")).toBe("the world's");
  expect([asked, world.connections]).toEqual([1, [`${PUBLIC_ADDRESS} 80`]]);
  expect(await fetched(world, "http://rebind.example/x")).toBe("forbidden");
});

test("every redirect is looked at like the first URL, and there is an end of them", async () => {
  await using world = await TestWorld.start();
  world.put("b.example:8080/there", "here");
  world.redirect("a.example/relative", "/next?x=1");
  world.redirect("a.example/next?x=1", "http://b.example:8080/there");
  expect(await fetched(world, "http://a.example/relative")).toBe("here");
  expect(world.connections.map((each) => each.split(" ")[1])).toEqual(["80", "80", "8080"]);
  world.connections.length = 0;
  world.names.set("inside.example", () => ["192.168.0.1"]);
  for (const location of [
    "http://127.0.0.1/",
    "http://inside.example/",
    "//[::1]/",
    "http://2130706433/gomotes",
    "http://b.example:8119/gomotes",
  ]) {
    world.redirect("a.example/in", location);
    expect([location, await fetched(world, "http://a.example/in")]).toEqual([location, "forbidden"]);
  }
  world.redirect("a.example/in", "file:///etc/passwd");
  expect(await fetched(world, "http://a.example/in")).toBe("bad-request");
  world.connections.length = 0;
  world.redirect("a.example/round", "/round");
  expect(await fetched(world, "http://a.example/round")).toBe("not-found");
  expect(world.connections).toHaveLength(HOPS + 1);
  // Where the same name leads somewhere else the second time.
  let asked = 0;
  world.names.set("rebind.example", () => [asked++ === 0 ? PUBLIC_ADDRESS : "10.0.0.1"]);
  world.redirect("rebind.example/", "/secret");
  expect(await fetched(world, "http://rebind.example/")).toBe("forbidden");
});

test("from ports that the farm does not name nothing is fetched, and nothing where a coordinator is, whatever its name", async () => {
  await using world = await TestWorld.start();
  const options = { clock: systemClock, world, limitBytes: LIMIT, ports: [80, 443] };
  await expect(guardedFetch("http://a.example:22/x", options, never)).rejects.toMatchObject({
    code: "forbidden",
    message:
      'Cannot fetch "http://a.example:22/x": this farm fetches from ports 80, 443 only (gomote.fetchPorts in its configuration)',
  });
  expect(world.connections).toEqual([]);
  const urls = ["https://93.184.216.35:8119", "https://[2a00:1450:4001:0::1]:8119", "https://localhost"];
  const own = await worldAround(async () => urls).own();
  expect(own).toEqual(expect.arrayContaining(["93.184.216.35", "2a00:1450:4001::1", "127.0.0.1"]));
});

test("what is missing, too large, cut off or slow is not fetched, and the next address is tried when one does not answer", async () => {
  await using world = await TestWorld.start();
  expect(await fetched(world, "http://a.example/404")).toBe("not-found");
  world.put("a.example/large", Buffer.alloc(LIMIT + 1));
  expect(await fetched(world, "http://a.example/large")).toBe("too-large");
  world.pages.set("a.example/cut", (_, response) => {
    response.writeHead(200, { "content-length": "10" });
    response.write("12345", () => response.destroy());
  });
  expect(await fetched(world, "http://a.example/cut")).toBe("not-found");
  world.put("two.example/x", "from the second");
  world.names.set("two.example", () => ["9.9.9.9", PUBLIC_ADDRESS]);
  const half = Object.assign(Object.create(world) as TestWorld, {
    connect: (port: number, address: string) =>
      address === "9.9.9.9" ? connect({ port: 1, host: "127.0.0.1" }) : world.connect(port, address),
  });
  expect(await fetched(half, "http://two.example/x")).toBe("from the second");

  const clock = new FakeClock();
  let asked = 0;
  world.pages.set("a.example/silent", () => asked++);
  const silent = fetched(world, "http://a.example/silent", clock);
  await until(() => asked === 1, "it to be asked");
  await clock.advance(ANSWER_LIMIT);
  expect(await silent).toBe("timed-out");
  world.pages.set("a.example/stuck", (_, response) => response.write("begun"));
  const stuck = await guardedFetch("http://a.example/stuck", { clock, world, limitBytes: LIMIT, ports: PORTS }, never);
  const failed = buffer(stuck).catch(codeOf);
  await clock.advance(STALL);
  await clock.advance(STALL);
  expect(await failed).toBe("timed-out");
});

test("whoever fetches over TLS says the name, and takes no certificate that nobody vouches for", async () => {
  await using world = await TestWorld.start();
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-fetch-"));
  const names: unknown[] = [];
  const { cert, key } = await certificate({ folder, names: [], now: epochMs(Date.now()) });
  await rm(folder, { recursive: true });
  const SNICallback = (name: string, done: (error: null) => void) => {
    names.push(name);
    done(null);
  };
  const server = createServer({ cert, key, SNICallback }).on("tlsClientError", () => {});
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const over = Object.assign(Object.create(world) as TestWorld, {
    connect: () => connect((server.address() as AddressInfo).port, "127.0.0.1"),
  });
  const options = { clock: systemClock, world: over, limitBytes: LIMIT, ports: PORTS };
  const failure = guardedFetch("https://tls.example/x", options, never);
  await expect(failure).rejects.toThrow(/certificate/);
  expect(names).toEqual(["tls.example"]);
  server.close();
});
