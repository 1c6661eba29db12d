/** Switches the machine off, or reboots it, at the end of a session, where its owner wants that. */

/** The command that reboots, or undefined where we know none. */
export function rebootCommand(platform: NodeJS.Platform): readonly string[] {
  return platform === "win32" ? ["shutdown", "/r"] : ["reboot"];
}

/** The command that powers off; undefined where the program only ends. */
export function haltCommand(platform: NodeJS.Platform): readonly string[] | undefined {
  switch (platform) {
    case "linux":
      return ["/sbin/halt", "-n", "-f", "-p"];
    case "freebsd":
    case "netbsd":
      return ["/sbin/halt", "-p"];
    case "openbsd":
      return ["/sbin/halt", "-p"];
    default:
      return undefined; // a Mac is somebody's desk as often as a virtual machine
  }
}

/** Starts the command and does not wait: the machine is going away. */
export async function runPowerCommand(command: readonly string[], log: (line: string) => void): Promise<void> {
  const { spawn } = await import("node:child_process");
  const [program = "", ...args] = command;
  spawn(program, args, { stdio: "ignore" }).on("error", (error) => log(`Cannot run ${program}: ${error.message}`));
}
