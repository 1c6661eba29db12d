/**
 * Which addresses are public. Everything else belongs to somebody: this computer, its network, a network behind it.
 * Some addresses only look public, since they carry one of those inside (IPv4-mapped, NAT64, 6to4, Teredo). An address
 * that is not known to be public is not public.
 */
import ipaddr from "ipaddr.js";

/** Whether anybody in the world can reach `address`, which is written as a resolver gives it. */
export function isPublicAddress(address: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  const parsed = ipaddr.parse(address);
  if (parsed.range() !== "unicast") return false;
  // The library calls "unicast" whatever has no other name. The only part of IPv6 that is given out is 2000::/3.
  return parsed.kind() === "ipv4" || parsed.match(ipaddr.parseCIDR("2000::/3"));
}
