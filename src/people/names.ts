/** The names that people and their tokens may have. Each `read...` throws a FarmError that says what is wrong. */
import { textFault } from "../config/names.ts";
import { didYouMean } from "../farm/did-you-mean.ts";
import { FarmError } from "../farm/errors.ts";
import { ROLES, type Role, userName } from "../farm/person.ts";

export const LONGEST_EMAIL = 254;
const LONGEST_TOKEN_NAME = 100;

/**
 * A mail address. Names of instances begin with its first part, and these are names of files, users of ssh, and words
 * in shells. So of the characters that mail allows only those may occur that mean nothing special in any of these.
 */
export function readEmail(given: string): string {
  const email = given.trim();
  const want = (rule: string) =>
    new FarmError(
      "bad-request",
      `Cannot take ${JSON.stringify(given.slice(0, LONGEST_EMAIL))} for a mail address: want ${rule}`,
    );
  if (email.length > LONGEST_EMAIL) throw want(`at most ${LONGEST_EMAIL} characters, it has ${email.length}`);
  const name = userName(email);
  if (name === "") throw want("NAME@DOMAIN, such as alice@example.org");
  if (!/^[A-Za-z0-9][A-Za-z0-9._+=~@-]*$/.test(name))
    throw want("letters, digits, '.', '_', '+', '=', '~' and '-' before the @, beginning with a letter or a digit");
  if (!/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(email.slice(name.length + 1)))
    throw want("a domain after the last @, such as example.org");
  return email;
}

/** Roles in the order of ROLES, from a text such as `member,team`. */
export function readRoles(given: string): readonly Role[] {
  const words = given.split(/[\s,]+/).filter((word) => word !== "");
  for (const word of words) {
    if (ROLES.some((role) => role === word)) continue;
    throw new FarmError(
      "bad-request",
      `Cannot give the role ${JSON.stringify(word)}: there are ${ROLES.join(", ")}${didYouMean(word, ROLES)}`,
    );
  }
  return ROLES.filter((role) => words.includes(role));
}

export function readTokenName(given: string): string {
  const name = given.trim();
  const fault =
    name === ""
      ? "want a name by which you will know it again, it is empty"
      : name.length > LONGEST_TOKEN_NAME
        ? `want at most ${LONGEST_TOKEN_NAME} characters, it has ${name.length}`
        : textFault(name, "one line");
  if (fault !== undefined)
    throw new FarmError("bad-request", `Cannot call a token ${JSON.stringify(given.slice(0, 200))}: ${fault}`);
  return name;
}
