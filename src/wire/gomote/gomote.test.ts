import { fileURLToPath } from "node:url";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { loadSync } from "@grpc/proto-loader";
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatLsLine, parseLsLine } from "../buildlet-api/ls-line.ts";
import { commandExit } from "./command-exit.ts";
import { CommandExitSchema, Gomote } from "./gen/barnraiser_pb.ts";
import {
  CreateInstanceResponse_Status,
  CreateInstanceResponseSchema,
  ExecuteCommandRequestSchema,
  GomoteService,
  UploadFileResponseSchema,
  WriteFileFromURLRequestSchema,
} from "./gen/gomote_pb.ts";
import { batchesOf, entriesOf, instanceName } from "./gomote.ts";

const MIB = 1 << 20;

/** The same files as another program reads them. */
const other = loadSync(["gomote.proto", "barnraiser.proto"], {
  includeDirs: [fileURLToPath(new URL(".", import.meta.url))],
  keepCase: true,
  longs: Number,
});
function otherMethod(service: string, method: string) {
  const definition = other[service];
  if (!definition || "format" in definition) throw new Error(`${service} is no service`);
  const found = definition[method];
  if (!found) throw new Error(`${service} has no ${method}`);
  return found;
}

test("GomoteService has the 16 methods on the paths that the original command calls", () => {
  const streams = (name: string) => otherMethod("protos.GomoteService", name).responseStream;
  const methods = GomoteService.methods.map(({ name, methodKind }) => [name, methodKind === "server_streaming"]);
  expect(methods.map(([name]) => name)).toEqual([
    "Authenticate", "AddBootstrap", "CreateInstance", "DestroyInstance", "ExecuteCommand", "InstanceAlive", "ListDirectory",
    "ListDirectoryStreaming", "ListInstances", "ListSwarmingBuilders", "ReadTGZToURL", "RemoveFiles", "SignSSHKey", "UploadFile",
    "WriteFileFromURL", "WriteTGZFromURL",
  ]); // biome-ignore format: rows
  expect(methods).toEqual(methods.map(([name]) => [name, streams(String(name))]));
  expect(otherMethod("protos.GomoteService", "InstanceAlive").path).toBe("/protos.GomoteService/InstanceAlive");
  expect(Gomote.typeName).toBe("barnraiser.Gomote");
});

test("messages have the numbers and types on the wire", () => {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
  const write = create(WriteFileFromURLRequestSchema, { gomoteId: "a", url: "u", filename: "f", mode: 0o755 });
  expect(hex(toBinary(WriteFileFromURLRequestSchema, write))).toBe("0a0161" + "120175" + "1a0166" + "25ed010000");
  const exec = create(ExecuteCommandRequestSchema, {
    gomoteId: "a",
    command: "c",
    systemLevel: true,
    debug: true,
    appendEnvironment: ["E=1"],
    path: ["p"],
    directory: "d",
    args: ["x"],
    imitateHostType: "i",
  });
  expect(hex(toBinary(ExecuteCommandRequestSchema, exec))).toBe(
    "0a0161" + "120163" + "1801" + "2001" + "2a03453d31" + "320170" + "3a0164" + "420178" + "4a0169",
  );
  const made = create(CreateInstanceResponseSchema, {
    instance: { gomoteId: "a", builderType: "b", hostType: "h", expires: 300n, workingDir: "/w" },
    status: CreateInstanceResponse_Status.COMPLETE,
    waitersAhead: 2n,
  });
  expect(hex(toBinary(CreateInstanceResponseSchema, made))).toBe(
    "0a10" + "0a0161" + "120162" + "1a0168" + "20ac02" + "2a022f77" + "1002" + "1802",
  );
});

test("what is written here, another program reads, and the other way round", () => {
  const upload = { url: "https://farm/", fields: { key: "k", policy: "p" }, object_name: "o" };
  const { responseSerialize, responseDeserialize } = otherMethod("protos.GomoteService", "UploadFile");
  const ours = create(UploadFileResponseSchema, { url: upload.url, fields: upload.fields, objectName: "o" });
  expect(responseDeserialize(Buffer.from(toBinary(UploadFileResponseSchema, ours)))).toEqual(upload);
  expect(fromBinary(UploadFileResponseSchema, responseSerialize(upload))).toEqual(ours);
});

test("a command's end becomes the status that a shell has for it", () => {
  const status = (state: string) => fromBinary(CommandExitSchema, toBinary(CommandExitSchema, commandExit(state)));
  const states = [
    "exit status 3", "exit status 0xc0000005", "signal: killed", "signal: segmentation fault (core dumped)", "signal: SIGWHATEVER",
    "fork/exec /w/x: permission denied",
  ]; // biome-ignore format: rows
  expect(states.map((state) => status(state).exitStatus)).toEqual([3, 1, 137, 139, 127, 127]);
  expect(status("exit status 3").processState).toBe("exit status 3");
});

test("an instance takes the lowest number that is free", () => {
  const taken = new Set(["alice-linux-0", "alice-linux-2", "alice-linux-x-1"]);
  expect(instanceName("alice", "linux", taken)).toBe("alice-linux-1");
  expect(instanceName("a@b", "linux", taken)).toBe("a@b-linux-0");
});

test("[gomote 26] batchesOf() keeps the entries in their order, in messages far below 4 MiB", () => {
  const entries = Array.from({ length: 250 }, (_, n) => `drwxr-xr-x\td${n}/`);
  expect([...batchesOf(entries)].map(({ length }) => length)).toEqual([100, 100, 50]);
  expect([...batchesOf([])]).toEqual([]);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 300_000 })), (lengths) => {
      const long = lengths.map((length, n) => String(n % 10).repeat(length));
      const batches = [...batchesOf(long)];
      expect(batches.flat()).toEqual(long);
      expect(batches.every((batch) => batch.length > 0 && batch.join("").length <= MIB)).toBe(true);
    }),
    { numRuns: 50 },
  );
});

test("entries of a listing are the buildlet's lines without their ends", () => {
  const lines = ["drwxr-xr-x\td/\n", "-rw-r--r--\tf\t1\t2026-11-23T17:00:05Z\n"];
  expect(entriesOf(lines.join(""))).toEqual(["drwxr-xr-x\td/", "-rw-r--r--\tf\t1\t2026-11-23T17:00:05Z"]);
  expect(entriesOf("")).toEqual([]);
  expect(
    entriesOf(lines.join(""))
      .map(parseLsLine)
      .map((entry) => entry && formatLsLine(entry)),
  ).toEqual(lines);
});
