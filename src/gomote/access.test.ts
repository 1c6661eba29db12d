import { expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import { personId } from "../farm/ids.ts";
import type { Role } from "../farm/person.ts";
import { looksAfter, rightsOn, rightsOrRefusal, type Visitor } from "./access.ts";

const { hosts } = checkFarm({
  repos: [],
  hosts: [
    {
      hostType: "host-linux-amd64-a",
      owners: [{ name: "Keeper", contact: "mailto:Keeper@example.org", notify: ["mailto:pager@example.org"] }],
    },
  ],
  builders: [],
});
const host = hosts[0];

function person(name: string, ...roles: Role[]): Visitor {
  return {
    kind: "person",
    person: { id: personId(`U${name.padEnd(9, "0").slice(0, 9)}`), email: `${name}@example.org`, name, roles },
  };
}

test("an instance is its borrower's to use, its machine's owner's and operators' to see and end, and nobody else's", () => {
  const alice = person("alice", "member");
  const instance = {
    name: "alice-linux-amd64-0",
    owner: alice.kind === "person" ? alice.person.id : personId("U000000000"),
  };
  const rights = (visitor: Visitor) => rightsOn(visitor, instance, host);
  expect(rights(alice)).toEqual({ use: true, as: "borrower" });
  expect(rights(person("keeper"))).toEqual({ use: false, as: "owner of the machine" });
  expect(rights(person("pager", "operator"))).toEqual({ use: false, as: "owner of the machine" });
  expect(rights(person("root", "operator"))).toEqual({ use: false, as: "operator" });
  expect(rights({ kind: "operator" })).toEqual({ use: false, as: "operator" });
  expect(rights(person("bob", "team", "member"))).toBeUndefined();
  expect(rights({ kind: "nobody" })).toBeUndefined();
  expect(rightsOn(person("keeper"), instance, undefined)).toBeUndefined(); // the host type is gone
  expect(() => rightsOrRefusal({ kind: "nobody" }, instance, host)).toThrow('Log in to see "alice-linux-amd64-0"');
  expect(() => rightsOrRefusal(person("bob"), instance, host)).toThrow("somebody else's");
  expect([looksAfter(person("keeper"), host), looksAfter(alice, host)]).toEqual([true, false]);
});
