import { readFileSync } from "node:fs";

/** The sections of conformance/vectors.json. */
export const vectors = JSON.parse(
  readFileSync(new URL("../../../../conformance/vectors.json", import.meta.url), "utf8"),
);

/** Decodes base64. */
export function bytes(base64: string): Uint8Array {
  return new Uint8Array(Buffer.from(base64, "base64"));
}
