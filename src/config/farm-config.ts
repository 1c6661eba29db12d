/**
 * The face of the package for a `farm.config.ts`:
 *
 *   import { defineFarm, script } from "barnraiser";
 *   export default defineFarm({ repos: [...], hosts: [...], builders: [...] });
 *
 * What is written there is checked when the file is loaded (check.ts), so a plain object does as well; `defineFarm`
 * is for the editor, which then knows every field.
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

/** `farm` itself, its type checked by the editor. */
export function defineFarm(farm: FarmInput): FarmInput {
  return farm;
}

export { platformName } from "../farm/go-platform.ts";
export { goPolicy, openPolicy } from "./policy.ts";
export { type GoBootstrap, type GoModuleOptions, type GoTreeOptions, goModule, goTree } from "./preset-go.ts";
export { type MakeProjectOptions, makeProject } from "./preset-make.ts";
export { type NpmPackageOptions, npmPackage } from "./preset-npm.ts";
export { autodetect, script } from "./presets.ts";
