// A custom runtime in Node.js, without dependencies: it speaks the Runtime API and calls `handler` in index.mjs.
// Written from AWS's page "Using the Lambda runtime API for custom runtimes".

import path from "node:path";
import { pathToFileURL } from "node:url";

const base = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime`;

const post = (route, body, headers = {}) => fetch(`${base}/${route}`, { method: "POST", body, headers });

function described(error) {
  return JSON.stringify({ errorMessage: error.message, errorType: error.name, stackTrace: error.stack?.split("\n") });
}

async function load() {
  const [module, name] = process.env._HANDLER.split(".");
  const file = path.join(process.env.LAMBDA_TASK_ROOT, `${module}.mjs`);
  return (await import(pathToFileURL(file)))[name];
}

let handler;
try {
  handler = await load();
} catch (error) {
  await post("init/error", described(error), { "Lambda-Runtime-Function-Error-Type": "Runtime.ImportModuleError" });
  process.exit(1);
}

for (;;) {
  const next = await fetch(`${base}/invocation/next`);
  const id = next.headers.get("Lambda-Runtime-Aws-Request-Id");
  try {
    const answer = await handler(await next.json(), { awsRequestId: id });
    await post(`invocation/${id}/response`, JSON.stringify(answer ?? null));
  } catch (error) {
    await post(`invocation/${id}/error`, described(error), { "Lambda-Runtime-Function-Error-Type": "Runtime.Thrown" });
  }
}
