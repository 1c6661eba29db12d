/** Parts that need no farm: folders, addresses, arguments of ssh, what is printed. */
import { PassThrough } from "node:stream";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { userFolder } from "./folders.ts";
import { LineSearch, LONGEST_LINE } from "./line-search.ts";
import { outputTo } from "./output.ts";
import { joinPath, splitPath } from "./path-list.ts";
import { parseServer } from "./server.ts";
import { shellLine } from "./shell-line.ts";
import { firstWord, gatewayOf, knownHosts } from "./ssh.ts";
import { Stopped } from "./stopped.ts";
import { callTrouble } from "./trouble.ts";

test("userFolder() is where each system keeps what its users' programs know", () => {
  const folders = (env: { readonly [name: string]: string }, platform: string) => [
    userFolder("config", env, platform),
    userFolder("cache", env, platform),
  ];
  expect(folders({ HOME: "/h" }, "linux")).toEqual(["/h/.config/gomote", "/h/.cache/gomote"]);
  expect(folders({ XDG_CONFIG_HOME: "/c", XDG_CACHE_HOME: "/d" }, "freebsd")).toEqual(["/c/gomote", "/d/gomote"]);
  expect(folders({ HOME: "/h" }, "darwin")).toEqual([
    "/h/Library/Application Support/gomote",
    "/h/Library/Caches/gomote",
  ]);
  expect(folders({ AppData: "C:\\a", LocalAppData: "C:\\b" }, "win32")).toEqual(["C:\\a\\gomote", "C:\\b\\gomote"]);
  expect(folders({ home: "/usr/glenda" }, "plan9")).toEqual(["/usr/glenda/lib/gomote", "/usr/glenda/lib/cache/gomote"]);
  expect(() => userFolder("config", {}, "linux")).toThrow("$HOME is not set");
  expect(() => userFolder("config", { XDG_CONFIG_HOME: "c" }, "linux")).toThrow('Cannot use "c" of the environment');
});

test("parseServer() takes an address, with or without a port, and what a browser shows", () => {
  expect(parseServer("farm.test")).toEqual({ host: "farm.test", port: 443 });
  expect(parseServer("https://farm.test:8119/")).toEqual({ host: "farm.test", port: 8119 });
  expect(parseServer("[::1]:8119")).toEqual({ host: "::1", port: 8119 });
  for (const wrong of ["", "a b", "farm.test:0", "farm.test:70000", "http://farm.test", "farm.test/x"])
    expect(() => parseServer(wrong)).toThrow(`Cannot use server ${JSON.stringify(wrong)}: want HOST:PORT`);
});

test("firstWord() finds where options of ssh end; gatewayOf() fills in what is not said", () => {
  const split = (text: string) => {
    const args = text.split(" ");
    return args.slice(firstWord(args)).join(" ");
  };
  expect(split("-L 8080:localhost:80 -t uname -a")).toBe("uname -a");
  expect(split("-tt -p22 -oBatchMode=yes ls")).toBe("ls");
  expect(split("-vp 22 ls")).toBe("ls");
  expect(split("ls -l")).toBe("ls -l");
  expect(gatewayOf("", "farm.test")).toEqual({ host: "farm.test", port: 2222 });
  expect(gatewayOf(":22", "farm.test")).toEqual({ host: "farm.test", port: 22 });
  expect(gatewayOf("[::1]:22", "farm.test")).toEqual({ host: "::1", port: 22 });
});

test("what a farm says of its gateway is an address and keys, or is refused: in files of ssh a line more would be run", () => {
  const wrong = [
    "gw\n  ProxyCommand touch /tmp/x\n#:22",
    "[::1\nProxyCommand x]:22",
    "gw x:22",
    "-oProxyCommand=x:22",
    "%h",
    "gw\n",
  ];
  for (const given of wrong)
    expect(() => gatewayOf(given, "farm.test")).toThrow(
      `Cannot use the gateway ${JSON.stringify(given)}: want HOST:PORT`,
    );
  expect(knownHosts(["ssh-ed25519 AAAA+/=", "sk-ssh-ed25519@openssh.com AAAA"])).toBe(
    "gomote-gateway ssh-ed25519 AAAA+/=\ngomote-gateway sk-ssh-ed25519@openssh.com AAAA\n",
  );
  for (const key of ["ssh-ed25519 AAAA\n* ssh-ed25519 BBBB", "ssh-ed25519", ""])
    expect(() => knownHosts(["ssh-ed25519 AAAA", key])).toThrow(`Cannot use the gateway's key ${JSON.stringify(key)}`);
});

test("shellLine() quotes what a shell would read otherwise", () => {
  expect(shellLine(["a", "b c", "$HOME", "it's", ""])).toBe(`a 'b c' '$HOME' 'it'\\''s' ''`);
});

test("a PATH is written as it is read, whatever is in its elements", () => {
  const read = (text: string, elements: readonly string[]) => expect(splitPath(text)).toEqual(elements);
  read("$WORKDIR/bin,$PATH", ["$WORKDIR/bin", "$PATH"]);
  read('/a,"/b,c",/d"e', ["/a", "/b,c", '/d"e']);
  read(",/a,,", ["", "/a", "", ""]);
  read('"C:\\a, b\\","""x"""', ["C:\\a, b\\", '"x"']);
  for (const elements of [["$WORKDIR/bin", "$PATH"], ["/b,c"], ['"x"', 'a"b', 'a",b', "", ","]])
    read(joinPath(elements), elements);
  expect(joinPath(["C:\\a\\", "$PATH"])).toBe("C:\\a\\,$PATH");
});

test("LineSearch looks at each line, however the output is cut, and keeps no more than the longest that there may be", () => {
  const matches = (expression: RegExp, ...pieces: (string | Buffer)[]) => {
    const search = new LineSearch(expression);
    for (const piece of pieces) search.push(Buffer.from(piece));
    return search.end();
  };
  expect(matches(/^3 times$/, "2 times\n3 ti", "mes", "\n4")).toBe(true);
  expect(matches(/^3 times$/, "3 times\r\n")).toBe(true);
  expect(matches(/^3 times$/, "3 times")).toBe(true);
  expect(matches(/1.*2/s, "1\n2\n")).toBe(false); // not over two lines
  expect(matches(/ü/, Buffer.from("ü").subarray(0, 1), Buffer.from("ü").subarray(1))).toBe(true);
  expect(matches(/^$/, "")).toBe(false);
  expect(matches(/^$/, "\n")).toBe(true);
  const long = new LineSearch(/^(?!.*b).{65536}$/);
  long.push(Buffer.from(`${"b".repeat(LONGEST_LINE - 1)}c${"a".repeat(LONGEST_LINE)}`));
  expect(long.end()).toBe(true);
  // Without a line feed.
  const endless = new LineSearch(/b/);
  const piece = Buffer.alloc(1 << 20, "a");
  for (let n = 0; n < 64; n++) endless.push(piece);
  expect(endless.end()).toBe(false);
});

test("callTrouble() says what the farm said, once, and which limit passed", () => {
  const said = (code: Code, message: string) =>
    callTrouble(new ConnectError(message, code), "create an instance of x", "farm:1").message;
  expect(said(Code.DeadlineExceeded, "no machine came free within 2h")).toBe(
    "Cannot create an instance of x: no machine came free within 2h",
  );
  expect(said(Code.DeadlineExceeded, "the operation timed out")).toBe(
    "Cannot create an instance of x: farm:1 did not answer in time",
  );
  expect(said(Code.InvalidArgument, 'Cannot create an instance of unknown builder type "x".')).toBe(
    'Cannot create an instance of unknown builder type "x".',
  );
});

test("outputTo() lets many wait for a slow reader at once, without a listener for each; on Ctrl-C nobody waits", async () => {
  const pipe = new PassThrough({ highWaterMark: 1 });
  const stop = new AbortController();
  const output = outputTo(pipe, new PassThrough(), stop.signal);
  const waiting = Promise.all(Array.from({ length: 20 }, () => output.data("xx")));
  expect(pipe.listenerCount("drain")).toBe(1);
  pipe.resume();
  await waiting;
  pipe.pause();
  const stuck = output.data("xx");
  stop.abort(new Stopped("SIGINT"));
  await stuck;
  expect(pipe.listenerCount("drain")).toBe(0);
});
