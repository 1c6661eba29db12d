/**
 * Which addresses are the world's. Everything else is somebody's own: this computer, its network, a network behind it, or a way of writing
 * one of these inside an address that looks like the world's (IPv4-mapped, NAT64, 6to4, Teredo). What is not known to be public is not.
 */
import ipaddr from "ipaddr.js";

/** Whether `address`, as a resolver gives it, is one that anybody in the world reaches. */
export function isPublicAddress(address: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  const parsed = ipaddr.parse(address);
  if (parsed.range() !== "unicast") return false;
  // "unicast" is what the library has no other name for; the only part of IPv6 that is given out is 2000::/3.
  return parsed.kind() === "ipv4" || parsed.match(ipaddr.parseCIDR("2000::/3"));
}
