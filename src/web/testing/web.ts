/**
 * The whole application on a real database and a real port, with the islands made by esbuild as `npm run build` makes
 * them.
 */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import type { FarmConfig } from "../../config/effective.ts";
import type { Clock } from "../../farm/clock.ts";
import { FarmError } from "../../farm/errors.ts";
import { buildId, coordinatorId, epochMs } from "../../farm/ids.ts";
import { Logs } from "../../logs/logs.ts";
import { OpenId } from "../../people/openid.ts";
import { People } from "../../people/people.ts";
import { systemClock } from "../../store/system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../../store/testing/database.ts";
import type { Banner } from "../../ui/data.ts";
import { assetsOf } from "../assets.ts";
import type { Actions, Assets, CheckResult, Lending, WebDeps } from "../deps.ts";
import { createWebApp, type WebApp } from "../web-app.ts";
import { type Seeded, seedFarm } from "./seed.ts";

export const TOKEN = "the-operator-token-of-tests";
/** The farm's client secret at its login provider. */
export const CLIENT_SECRET = "the-client-secret-of-tests";

export interface TestWeb extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly seeded: Seeded;
  readonly app: WebApp;
  readonly logs: Logs;
  readonly people: People;
  readonly done: string[]; // what actions were called with
  readonly checks: CheckResult[];
  readonly banners: Banner[];
  config: FarmConfig;
  /** GET (or whatever `init` says) of a path, as from a browser on the same host. */
  get(path: string, init?: RequestInit): Promise<Response>;
  /** Begins to listen. Returns the address. */
  listen(): Promise<string>;
}

export async function testWeb(
  options: { clock?: Clock; commits?: number; assets?: Assets; empty?: boolean; deps?: Partial<WebDeps> } = {},
): Promise<TestWeb> {
  const clock = options.clock ?? systemClock;
  await using stack = new AsyncDisposableStack();
  const database = stack.use(await freshDatabase());
  const seeded = await seedFarm(database.sql, clock.now(), options.empty ? 0 : options.commits);
  const logs = stack.use(new Logs({ sql: database.sql, bus: database.bus, clock }));
  const people = new People({ sql: database.sql, bus: database.bus, clock, log: quiet });
  const done: string[] = [];
  const checks: CheckResult[] = [];
  const banners: Banner[] = [];
  const web = { config: seeded.config };
  const app = stack.use(
    createWebApp({
      sql: database.sql,
      bus: database.bus,
      clock,
      log: quiet,
      logs,
      assets: options.assets ?? assetsOf(new Map()),
      actions: recorded(done),
      people,
      openid: new OpenId({
        sql: database.sql,
        clock,
        log: quiet,
        people,
        config: () => {
          const { login, publicUrl } = web.config;
          return login && publicUrl !== null ? { login, publicUrl } : null;
        },
        secret: async () => CLIENT_SECRET,
        key: TOKEN,
      }),
      lending: lending(done),
      farmName: "The test farm",
      version: "0.1.0",
      startedAt: epochMs(clock.now() - 3600_000),
      coordinator: coordinatorId("P000000001"),
      operatorToken: TOKEN,
      dialAddress: () => "farm.example.org:8119",
      httpPort: () => 8118,
      sshPort: () => 2222,
      config: () => web.config,
      banners: () => banners,
      checkers: () => checks,
      merged: async () => [],
      ...options.deps,
    }),
  );
  const servers: Server[] = [];
  stack.defer(async () => {
    for (const server of servers) {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    }
  });
  const own = stack.move();
  return Object.assign(web, {
    database,
    seeded,
    app,
    logs,
    people,
    done,
    checks,
    banners,
    get: async (path: string, init?: RequestInit) =>
      app.fetch(new Request(`http://farm.test${path}`, { redirect: "manual", ...init })),
    async listen() {
      const server = createServer(app.listener);
      servers.push(server);
      await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    },
    [Symbol.asyncDispose]: () => own.disposeAsync(),
  });
}

function recorded(done: string[]): Actions {
  const note =
    <A extends unknown[]>(what: string) =>
    async (...args: A): Promise<void> => {
      done.push([what, ...args].join(" "));
    };
  return {
    async rebuild(build, who) {
      done.push(`rebuild ${build} ${who}`);
      if (build === 999_999) throw new FarmError("not-found", "Cannot rebuild 999999: there is no such build");
      return { build: build === 10 ? build : buildId(build + 1), made: build > 11 };
    },
    cancel: note("cancel"),
    readmitMachine: note("readmitMachine"),
    async drain(target, why, who) {
      done.push(`drain ${Object.values(target).join(" ")} ${why} ${who}`);
    },
    async resume(target, who) {
      done.push(`resume ${Object.values(target).join(" ")} ${who}`);
    },
    revokeKey: note("revokeKey"),
  };
}

/** Lending without any connected machine. */
export function lending(done: string[]): Lending {
  const away = async (): Promise<never> => {
    throw new FarmError("unavailable", "Its machine is away");
  };
  return {
    instances: {
      use: away,
      held: away,
      keep: () => ({ [Symbol.dispose]() {} }),
      async destroy(person, name) {
        done.push(`destroy ${name} ${person.email}`);
      },
      async end({ id, who, reason }) {
        done.push(`end ${id} ${who}: ${reason}`);
      },
    },
    creations: {
      async *create(person, type) {
        if (type === "") throw new FarmError("bad-request", "Cannot create an instance: want a name");
        done.push(`create ${type} ${person.email}`);
        yield { kind: "waiting", ahead: 1 };
      },
    },
    holds: {
      async *hold(person, { id }) {
        done.push(`hold ${id} ${person.email}`);
        yield { progress: "its machine becomes yours when it fails" };
        throw new FarmError("conflict", `Cannot hold the machine of build ${id}: it has hung up since.`);
      },
    },
    terminals: { open: away, find: () => undefined, show: () => () => {} },
    running: {
      async kill({ name }, number, { who, as }) {
        done.push(`kill ${number} of ${name} ${who} as ${as}`);
      },
    },
    records: async () => {},
    peers: { connect: away },
  };
}

const ui = fileURLToPath(new URL("../../ui/", import.meta.url));

/** The islands and the sheet, built in memory. */
export async function buildAssets(): Promise<Assets> {
  const { outputFiles } = await esbuild.build({
    entryPoints: [`${ui}islands/farm.tsx`, `${ui}style.css`],
    entryNames: "[name]",
    outdir: ui,
    write: false,
    bundle: true,
    splitting: true,
    chunkNames: "chunk-[name]-[hash]",
    platform: "browser",
    format: "esm",
    target: "es2022",
    minify: true,
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "none",
    logLevel: "warning",
  });
  return assetsOf(
    new Map(outputFiles.map((file) => [file.path.slice(file.path.lastIndexOf("/") + 1), Buffer.from(file.contents)])),
  );
}
