/** Files of a package by their names as tests: relative, with slashes whatever the machine. */
import { readdirSync } from "node:fs";
import { relative, resolve, sep } from "node:path";

export function slashed(file: string): string {
  return relative(process.cwd(), resolve(file)).split(sep).join("/");
}

/** A path as a pattern, in which `?` stands for what might have a meaning there. */
export function globOf(file: string): string {
  return file
    .split(sep)
    .join("/")
    .replace(/[^\w./:@-]/g, "?");
}

/** A name for `node --test`, which takes it for a pattern from Node 21 on, and for a path before. Braces and backslashes keep their meaning in brackets. */
export function nodePatternOf(name: string, node: string): string {
  if (Number.parseInt(node, 10) < 21) return name;
  return name.replace(/[[(*?]/g, "[$&]").replace(/[{}\\]/g, "?");
}

/** All files of a folder that are the package's own. */
export function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = folder === "." ? entry.name : `${folder}/${entry.name}`;
    if (!entry.isDirectory()) return [path];
    return entry.name === "node_modules" || entry.name === ".git" ? [] : filesBelow(path);
  });
}

/** Those that `node --test` runs when it is given no names. */
export function nodeTestFiles(files: readonly string[], typescript: boolean): readonly string[] {
  const extension = typescript ? /\.[cm]?[jt]s$/ : /\.[cm]?js$/;
  return files.filter((file) => {
    if (!extension.test(file) || /(^|\/)\./.test(file)) return false;
    const folders = file.replace(extension, "").split("/");
    const name = folders.pop() ?? "";
    return folders.includes("test") || /^test(-.*)?$|[._-]test$/.test(name);
  });
}

/**
 * Whether a runner that takes `name` for a part of a path may mean `file` by it. A runner with several projects counts both from the folder of each, so
 * this holds for what is left of them below any folder that has both.
 */
export function sharesName(file: string, name: string): boolean {
  if (file.toLowerCase().includes(name.toLowerCase())) return true;
  const below = name.indexOf("/") + 1;
  return below > 0 && file.startsWith(name.slice(0, below)) && sharesName(file.slice(below), name.slice(below));
}
