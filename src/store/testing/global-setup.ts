/** Vitest's global set-up: the one PostgreSQL of the run, in a folder of its own, with a migrated template. */
import { rm } from "node:fs/promises";
import pg from "pg";
import type { TestProject } from "vitest/node";
import { EmbeddedServer } from "../embedded-server.ts";
import { migrate } from "../migrate.ts";
import { systemClock } from "../system-clock.ts";
import { quiet, TEMPLATE } from "./database.ts";
import { memoryFolder } from "./memory-folder.ts";

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const data = await memoryFolder("test");
  const settings = {
    fsync: "off",
    full_page_writes: "off",
    max_connections: "300",
    max_wal_size: "256MB",
    shared_buffers: "128MB",
  };
  const server = await EmbeddedServer.start({ data, clock: systemClock, log: quiet, settings });
  const client = new pg.Client({ ...server.connection, database: "postgres" });
  await client.connect();
  await client.query(`create database ${TEMPLATE}`);
  await client.end();
  await migrate({ ...server.connection, database: TEMPLATE });
  const { host = "", port = 5432, user = "", password } = server.connection;
  project.provide("postgres", { host, port, user, password: String(password) });
  return async () => {
    await server[Symbol.asyncDispose]();
    await rm(data, { recursive: true, force: true });
  };
}
