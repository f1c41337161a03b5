// The types that openapi-typescript generates from the OpenAPI document compile, and agree with those of fal's client.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const BASE = process.env.LATENTD_URL ?? "http://127.0.0.1:8080";

const PROGRAM = `
import type { QueueStatus } from "@fal-ai/client";
import type { EndpointTypeMap } from "@fal-ai/client/endpoints";
import type { components } from "./document";

type Ours = components["schemas"];
type Fal = EndpointTypeMap["fal-ai/stable-diffusion-v35-large"];
type FalMedium = EndpointTypeMap["fal-ai/stable-diffusion-v35-medium"];

// An input for this server is valid for fal, except nulls: the client's types allow fewer of them than fal's document.
// This server's output is valid for programs written for fal.
type WithoutNulls<T> = T extends object ? { [Field in keyof T]: WithoutNulls<Exclude<T[Field], null>> } : T;
type Written<Input> = Partial<WithoutNulls<Input>> & { prompt: string };
export const input = (written: Written<Ours["StableDiffusionV35LargeInput"]>): Fal["input"] => written;
export const medium = (written: Written<Ours["StableDiffusionV35MediumInput"]>): FalMedium["input"] => written;
export const output = (answer: Ours["StableDiffusionV35LargeOutput"]): Fal["output"] & FalMedium["output"] => answer;
export const states: Record<Ours["QueueStatus"]["status"], QueueStatus["status"]> = {
  IN_QUEUE: "IN_QUEUE", IN_PROGRESS: "IN_PROGRESS", COMPLETED: "COMPLETED",
};
// @ts-expect-error not a supported format
export const wrong: Ours["StableDiffusionV35LargeInput"]["output_format"] = "webp";
`;

test("types generated from the document compile and agree with the fal client's", async () => {
  const folder = mkdtempSync(join(tmpdir(), "latentd-types-"));
  try {
    const types = astToString(await openapiTS(new URL(`${BASE}/openapi.json`)));
    writeFileSync(join(folder, "document.ts"), types);
    writeFileSync(join(folder, "program.ts"), PROGRAM);
    symlinkSync(join(import.meta.dirname ?? process.cwd(), "node_modules"), join(folder, "node_modules"));
    const options = {
      strict: true,
      noEmit: true,
      skipLibCheck: true,
      types: [],
      lib: ["lib.es2022.d.ts", "lib.dom.d.ts"],
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      moduleResolution: ts.ModuleResolutionKind.Bundler,
    };
    const program = ts.createProgram([join(folder, "program.ts")], options);
    const diagnostics = ts.getPreEmitDiagnostics(program).map((one) => ts.flattenDiagnosticMessageText(one.messageText, "\n"));
    assert.deepEqual(diagnostics, []);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
