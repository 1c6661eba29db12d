/**
 * The form that brings a file: multipart/form-data with fields in any order. The file is its last part, and is read as
 * it comes.
 *
 *   fields -the file begins-> file -it ends-> end;  any -malformed, cut off-> broken
 *
 * Whether the form was whole is known only at its end: a field behind the file breaks it. The code that kept the file
 * must then drop it.
 */
import type { Readable } from "node:stream";
import { finished } from "node:stream";
import { Busboy, type BusboyInstance } from "@fastify/busboy";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { FILE_FIELD } from "./signed-urls.ts";

const MOST_FIELDS = 20;
const LONGEST_FIELD = 1024;
const HEADER_LIMIT = 8 * 1024;

export interface UploadForm {
  readonly fields: ReadonlyMap<string, string>;
  readonly file: Readable;
  /** The name that the sender gave, without folders; "": none. */
  readonly fileName: string;
  /** Resolves when the form ended as it should. */
  readonly end: Promise<void>;
}

/**
 * Reads a form, and resolves when its file begins. Throws FarmError: `bad-request` for any other body, `canceled` when
 * `body` ends too early, or the FarmError with which `body` is destroyed.
 */
export function readUploadForm(body: Readable, contentType: string): Promise<UploadForm> {
  const parser = parserFor(contentType);
  const fields = new Map<string, string>();
  const begun = Promise.withResolvers<UploadForm>();
  const end = Promise.withResolvers<void>();
  end.promise.catch(() => {}); // the reader of the file gets the error
  let file: Readable | undefined;

  const fail = (error: FarmError): void => {
    begun.reject(error);
    end.reject(error);
    file?.destroy(error);
  };
  parser.on("field", (name, value, _, truncated) => {
    const quoted = JSON.stringify(name.slice(0, 100));
    if (file) fail(refused(`the field ${quoted} stands behind the file; "${FILE_FIELD}" has to be the last`));
    else if (truncated) fail(refused(`the field ${quoted} is longer than ${LONGEST_FIELD} bytes`));
    else fields.set(name, value);
  });
  parser.on("file", (name, stream, fileName) => {
    stream.on("error", () => {}); // its reader gets the error
    if (name !== FILE_FIELD || file) {
      stream.resume();
      fail(refused(`want one file, in the last part, which is named "${FILE_FIELD}"`));
      return;
    }
    file = stream;
    begun.resolve({ fields, file, fileName: fileName ?? "", end: end.promise });
  });
  parser.on("finish", () =>
    file ? end.resolve() : fail(refused(`the form has no file; want a part named "${FILE_FIELD}"`)),
  );
  parser.on("fieldsLimit", () => fail(refused(`the form has more than ${MOST_FIELDS} fields`)));
  parser.on("error", (error) => fail(refused(`the form cannot be read: ${messageOf(error)}`)));
  finished(body, { writable: false }, (error) => {
    if (error) fail(error instanceof FarmError ? error : cutOff(error));
  });
  body.pipe(parser);
  return begun.promise;
}

function parserFor(contentType: string): BusboyInstance {
  try {
    return new Busboy({
      headers: { "content-type": contentType },
      limits: { fields: MOST_FIELDS, fieldSize: LONGEST_FIELD, headerSize: HEADER_LIMIT },
    });
  } catch (error) {
    const quoted = JSON.stringify(contentType.slice(0, 100));
    throw refused(`its type is ${quoted}, want multipart/form-data with a boundary`, error);
  }
}

function cutOff(cause: unknown): FarmError {
  return new FarmError("canceled", "Cannot upload: the connection ended before the form did", { cause });
}

function refused(why: string, cause?: unknown): FarmError {
  return new FarmError("bad-request", `Cannot upload: ${why}`, { cause });
}
