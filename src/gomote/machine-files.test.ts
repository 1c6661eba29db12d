import { expect, test } from "vitest";
import { FarmError } from "../farm/errors.ts";
import { listingError } from "./machine-files.ts";

test("listingError() says in words what happens to people, and passes on all else", () => {
  const said = (words: string) => {
    const error = listingError(new FarmError("machine-broken", words), "a b", "x");
    return error instanceof FarmError ? [error.code, error.message] : error;
  };
  const gone = ["not-found", 'There is no "a b" on x: it was deleted, or has another name.'];
  expect(said('Machine "m" answered GET /ls with 500: Cannot list "a b": ENOENT: no such file or directory')).toEqual(
    gone,
  );
  expect(said("lstat /home/build/a b: no such file or directory")).toEqual(gone);
  expect(said("EACCES: permission denied, scandir")).toEqual(["forbidden", expect.stringContaining("may not be read")]);
  expect(said('Machine "m" is gone')).toEqual(["machine-broken", 'Machine "m" is gone']);
});
