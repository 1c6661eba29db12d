import { expect, test } from "vitest";
import { isLoopback, parseAddress } from "./address.ts";
import { proxyFor } from "./proxy.ts";

test("proxyFor() reads the environment and leaves loopback and NO_PROXY alone", () => {
  const proxied = (host: string, env: { [name: string]: string }) => {
    const proxy = proxyFor("https", { host, port: 8119 }, env);
    return proxy && `${proxy.credentials}@${proxy.host}:${proxy.port}`;
  };
  const env = { HTTPS_PROXY: "http://me:s%40fe@proxy.test:3128" };
  const except = (list: string, host: string) => proxied(host, { ...env, NO_PROXY: list }) === undefined;
  expect([
    proxied("farm.test", env),
    proxied("farm.test", { https_proxy: "proxy.test" }),
    proxied("farm.test", { HTTP_PROXY: "http://proxy.test" }),
    proxied("localhost", env),
    proxied("127.0.0.9", env),
  ]).toEqual(["me:s@fe@proxy.test:3128", "@proxy.test:80", undefined, undefined, undefined]);
  expect([
    except("*", "farm.test"),
    except("other, farm.test", "farm.test"),
    except("test", "farm.test"),
    except(".test", "farm.test"),
    except("*.farm.test", "farm.test"),
    except(".farm.test", "farm.test"),
    except("farm.test:8119", "farm.test"),
    except("farm.test:443", "farm.test"),
    except("10.0.0.0/8", "10.1.2.3"),
    except("10.0.0.0/8", "11.1.2.3"),
    except("10.0.0.0/99", "10.1.2.3"),
    except("::2", "::2"),
    except("arm.test", "farm.test"),
  ]).toEqual([true, true, true, true, false, false, true, false, true, false, false, true, false]);
  expect(() => proxyFor("https", { host: "farm.test", port: 1 }, { HTTPS_PROXY: "http://a:secret@:x" })).toThrow(
    /^Cannot use the proxy in HTTPS_PROXY/,
  );
});

test("parseAddress() wants a port, except for the public coordinator", () => {
  expect([parseAddress("farmer.golang.org"), parseAddress("[::1]:8119"), parseAddress("a.test:1")]).toEqual([
    { host: "farmer.golang.org", port: 443 },
    { host: "::1", port: 8119 },
    { host: "a.test", port: 1 },
  ]);
  for (const bad of ["a.test", "", ":1", "a:0", "a:65536", "::1:8119", "a:b"])
    expect(() => parseAddress(bad), bad).toThrow("want HOST:PORT");
});

test("isLoopback() knows this machine's names only", () => {
  const names = [
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "127.1.2.3",
    "::1",
    "::ffff:127.0.0.1",
    "localhost.test",
    "127.evil.test",
    "::2",
  ];
  expect(names.map(isLoopback)).toEqual([true, true, true, true, true, true, false, false, false]);
});
