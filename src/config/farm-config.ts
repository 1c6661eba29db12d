/**
 * The names that a `farm.config.ts` imports from the package:
 *
 *   import { defineFarm, script } from "barnraiser";
 *   export default defineFarm({ repos: [...], hosts: [...], builders: [...] });
 *
 * The farm is checked when the file is loaded (check.ts), so a plain object works as well. `defineFarm` is for the
 * editor, which then knows every field.
 */
import type { FarmInput } from "./input.ts";

export type {
  AgainstInput,
  BuilderInput,
  Builds,
  Duration,
  EnvInput,
  FarmInput,
  HostInput,
  LoginInput,
  MailInput,
  NotifyInput,
  OwnerInput,
  Policy,
  PolicyQuestion,
  RecipientInput,
  RepoInput,
  RetentionInput,
  Secret,
  SnapshotInput,
  SourceInput,
  StepInput,
  TestsInput,
} from "./input.ts";

/** Returns `farm` itself; the editor checks its type. */
export function defineFarm(farm: FarmInput): FarmInput {
  return farm;
}

export { platformName } from "../farm/go-platform.ts";
export { goPolicy, openPolicy } from "./policy.ts";
export { type GoBootstrap, type GoModuleOptions, type GoTreeOptions, goModule, goTree } from "./preset-go.ts";
export { type MakeProjectOptions, makeProject } from "./preset-make.ts";
export { type NpmPackageOptions, npmPackage } from "./preset-npm.ts";
export { autodetect, script } from "./presets.ts";
