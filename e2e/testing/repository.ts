/** A small git repository of the test's own. */
import { execFile } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { reachableFolder } from "../../src/store/testing/reachable-folder.ts";

const run = promisify(execFile);
const identity = ["-c", "user.name=A. Author", "-c", "user.email=author@example.org", "-c", "commit.gpgsign=false"];

export class Repository implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async make(): Promise<Repository> {
    const repository = new Repository(await temporaryFolder());
    await repository.git("init", "-q", "-b", "main");
    return repository;
  }

  /** Writes `files` (executable) and commits them; resolves with the new commit. */
  async commit(message: string, files: Readonly<Record<string, string>> = {}): Promise<string> {
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(this.path, name)), { recursive: true });
      await writeFile(join(this.path, name), content, { mode: 0o755 });
    }
    await this.git("add", "-A");
    await this.git("commit", "-q", "--allow-empty", "-m", message);
    return (await this.git("rev-parse", "HEAD")).trim();
  }

  async git(...args: string[]): Promise<string> {
    return (await run("git", ["-C", this.path, ...identity, ...args])).stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

/** A folder that also an unprivileged user may enter. */
export function temporaryFolder(): Promise<string> {
  return reachableFolder(join(tmpdir(), "barnraiser-e2e-"));
}
