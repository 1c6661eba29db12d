/**
 * Ready units for the supervisors of Unix systems: `stage0 -print-unit systemd|launchd|openrc|rc.d`.
 *
 * All of them do the same: start stage0 at boot, and again ten seconds after it ended, whatever its exit code, since it
 * ends after each session on purpose. Paths are absolute. Values are quoted for the file at hand.
 */
export const UNIT_KINDS = ["systemd", "launchd", "openrc", "rc.d"] as const;
export type UnitKind = (typeof UNIT_KINDS)[number];

export interface Unit {
  /** Node, the path of stage0 and its flags. */
  readonly command: readonly [node: string, ...args: string[]];
  /** Where stage0 keeps the agent. */
  readonly dir: string;
  readonly user: string;
  readonly env: readonly (readonly [name: string, value: string])[];
}

export function printUnit(kind: UnitKind, unit: Unit): string {
  switch (kind) {
    case "systemd":
      return systemd(unit);
    case "launchd":
      return launchd(unit);
    case "openrc":
      return openrc(unit);
    case "rc.d":
      return rcd(unit);
  }
}

function systemd({ command, dir, user, env }: Unit): string {
  const quote = (word: string) =>
    `"${word.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("%", "%%").replaceAll("$", "$$$$")}"`;
  const setting = (text: string) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("%", "%%")}"`;
  return `# /etc/systemd/system/buildlet.service
# Then: systemctl daemon-reload && systemctl enable --now buildlet
[Unit]
Description=Build farm agent
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
User=${user}
WorkingDirectory=${dir.replaceAll("%", "%%")}
${env.map(([name, value]) => `Environment=${setting(`${name}=${value}`)}\n`).join("")}ExecStart=${command.map(quote).join(" ")}
Restart=always
RestartSec=10
KillMode=control-group

[Install]
WantedBy=multi-user.target
`;
}

function launchd({ command, dir, user, env }: Unit): string {
  const xml = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const entry = (key: string, value: string) => `  <key>${key}</key>\n  ${value}\n`;
  const text = (value: string) => `<string>${xml(value)}</string>`;
  const words = command.map((word) => `    ${text(word)}\n`).join("");
  const variables = env.map(([name, value]) => `    <key>${xml(name)}</key>\n    ${text(value)}\n`).join("");
  return `<?xml version="1.0" encoding="UTF-8"?>
<!-- /Library/LaunchDaemons/barnraiser.buildlet.plist
     Then: launchctl bootstrap system /Library/LaunchDaemons/barnraiser.buildlet.plist -->
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
${entry("Label", text("barnraiser.buildlet"))}${entry("UserName", text(user))}${entry("WorkingDirectory", text(dir))}${entry("ProgramArguments", `<array>\n${words}  </array>`)}${env.length === 0 ? "" : entry("EnvironmentVariables", `<dict>\n${variables}  </dict>`)}${entry("RunAtLoad", "<true/>")}${entry("KeepAlive", "<true/>")}${entry("ThrottleInterval", "<integer>10</integer>")}${entry("StandardErrorPath", text("/var/log/buildlet.log"))}</dict>
</plist>
`;
}

function shell(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function openrc({ command, dir, user, env }: Unit): string {
  const [node, ...args] = command;
  return `#!/sbin/openrc-run
# /etc/init.d/buildlet (mode 755)
# Then: rc-update add buildlet default && rc-service buildlet start
name="Build farm agent"
supervisor=supervise-daemon
respawn_delay=10
respawn_max=0
command=${shell(node)}
# Read once more by the shell that starts it.
command_args=${shell(args.map(shell).join(" "))}
command_user=${shell(user)}
directory=${shell(dir)}
output_log=/var/log/buildlet.log
error_log=/var/log/buildlet.log
${env.map(([name, value]) => `export ${name}=${shell(value)}\n`).join("")}
depend() {
  need net
}
`;
}

function rcd({ command, dir, user, env }: Unit): string {
  return `#!/bin/sh
# /usr/local/etc/rc.d/buildlet (mode 755)
# Then: sysrc buildlet_enable=YES && service buildlet start
#
# PROVIDE: buildlet
# REQUIRE: NETWORKING
# KEYWORD: shutdown

. /etc/rc.subr

name=buildlet
rcvar=buildlet_enable
load_rc_config $name
: \${buildlet_enable:=NO}

pidfile=/var/run/buildlet.pid
start_cmd=buildlet_start
stop_cmd=buildlet_stop

buildlet_start() {
  cd ${shell(dir)} || return 1
${env.map(([name, value]) => `  export ${name}=${shell(value)}\n`).join("")}  /usr/sbin/daemon -r -R 10 -P "$pidfile" -u ${shell(user)} -o /var/log/buildlet.log ${command.map(shell).join(" ")}
}

buildlet_stop() {
  [ -r "$pidfile" ] && kill "$(cat "$pidfile")"
}

run_rc_command "$1"
`;
}
