/**
 * The machine on which a build failed: somebody keeps it, and has a shell on it right here, or the visitor may borrow
 * it.
 */
import type { JSX } from "preact";
import { Act, Name, Section } from "../parts.tsx";
import { ShellBox } from "../shell-box.tsx";

export type BuildMachine =
  | {
      readonly kind: "kept";
      readonly instance: string;
      readonly email: string;
      /** Whether the instance is the visitor's, and is up. */
      readonly use: boolean;
      /** Whether its agent gives shells to browsers. */
      readonly hasShell: boolean;
    }
  /** The machine has done nothing else since, and the visitor may borrow it. */
  | { readonly kind: "free"; readonly machine: string };

export function KeptMachine(props: { build: number; machine: BuildMachine }): JSX.Element {
  const { build, machine } = props;
  return (
    <Section id="machine" title="Its machine">
      {machine.kind === "free" ? (
        <>
          <p>
            <Name text={machine.machine} /> is as this build left it. Kept, it is an instance of yours, with all that is
            there, until you are done with it.
          </p>
          <Act action={`/b/${build}/hold`} label="Keep it for me" />
        </>
      ) : (
        <>
          <p>
            It is kept as this build left it:{" "}
            <a href={`/gomotes/${encodeURIComponent(machine.instance)}`}>
              <Name text={machine.instance} />
            </a>{" "}
            of <Name text={machine.email} />.
          </p>
          {machine.use && machine.hasShell ? <ShellBox instance={machine.instance} /> : null}
        </>
      )}
    </Section>
  );
}
