import { expect, test } from "vitest";
import { FarmError } from "../farm/errors.ts";
import { refusal } from "../machines/buildlet/refusal.ts";
import { quiet } from "../store/testing/database.ts";
import { listingError } from "./machine-files.ts";

test("listingError() says in words what happens to people, and passes on all else", () => {
  const said = (error: FarmError) => {
    const told = listingError(error, "a b", "x");
    return told instanceof FarmError ? [told.code, told.message] : told;
  };
  const refused = (words: string) =>
    said(refusal(quiet, "bad-request", { name: "m", call: "GET /ls", doing: 'list "a b"', status: 500, words }));
  const gone = ["not-found", 'There is no "a b" on x: it was deleted, or has another name.'];
  expect(refused('Cannot list "a b": ENOENT: no such file or directory')).toEqual(gone);
  expect(refused("lstat /home/build/a b: no such file or directory")).toEqual(gone);
  expect(refused("CreateFile C:\\a b: The system cannot find the path specified.")).toEqual(gone);
  const locked = ["forbidden", '"a b" on x may not be read by what the farm runs there.'];
  expect(refused('Cannot list "a b": EACCES: permission denied')).toEqual(locked);
  expect(refused('Cannot list "a b": EPERM: operation not permitted')).toEqual(locked); // a folder that macOS protects
  expect(refused("open /home/build/a b: operation not permitted")).toEqual(locked);
  expect(refused("open C:\\a b: Access is denied.")).toEqual(locked);
  expect(said(new FarmError("machine-broken", 'Machine "m" is gone'))).toEqual([
    "machine-broken",
    'Machine "m" is gone',
  ]);
});
