/** A number of bytes as people read it, in the largest unit that leaves something before the point: "2.5 GiB". */
export function sizeText(bytes: number): string {
  const [unit, name] =
    bytes >= 1024 ** 3 ? [1024 ** 3, "GiB"] : bytes >= 1024 ** 2 ? [1024 ** 2, "MiB"] : [1024, "KiB"];
  return `${Number((bytes / unit).toFixed(1))} ${name}`;
}
