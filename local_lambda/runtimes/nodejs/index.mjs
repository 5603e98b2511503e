// The runtime of a Node.js function: /var/runtime/index.mjs. It needs no package; _HANDLER names the handler.
//
// It loads the handler, asks the Runtime API for invocations, and writes console output as Lambda's Node.js runtime does:
// each message as one record, with its time and request id. Source: AWS docs "Using the Lambda runtime API", "Define
// Lambda function handler in Node.js", "Log and monitor Node.js Lambda functions".

import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { PassThrough, Writable } from "node:stream";
import { pathToFileURL } from "node:url";
import { format } from "node:util";

const { env } = process;
const [host, port] = env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");
const LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

let requestId = "";

// --- the Runtime API ---

function call(method, route, { body, headers = {}, stream } = {}) {
  const options = { agent: stream ? undefined : agent, host, port, method, headers, path: `/2018-06-01/runtime/${route}` };
  return new Promise((resolve, reject) => {
    const request = http.request(options, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(chunks) }));
      response.on("error", reject);
    });
    request.on("error", reject);
    if (stream) stream(request);
    else request.end(body);
  });
}

function described(error) {
  if (!(error instanceof Error)) return { errorType: typeof error, errorMessage: String(error), trace: [] };
  return { errorType: error.name, errorMessage: error.message, trace: (error.stack ?? "").split("\n") };
}

function report(route, error, type) {
  const body = JSON.stringify(described(error));
  const headers = { "Content-Type": "application/json", "Lambda-Runtime-Function-Error-Type": type };
  return call("POST", route, { body, headers });
}

// --- the log ---

const logFd = Number(env._LAMBDA_TELEMETRY_LOG_FD ?? 0);
delete env._LAMBDA_TELEMETRY_LOG_FD;
const isJson = env.AWS_LAMBDA_LOG_FORMAT === "JSON";
const lowest = isJson ? LEVELS.indexOf((env.AWS_LAMBDA_LOG_LEVEL ?? "INFO").toUpperCase()) : 0;
// The head of a framed message: a magic number with the level, the length, the time in microseconds.
const FRAME = 0xa55a0003;

function write(level, message) {
  if (!logFd) return void fs.writeSync(1, `${message}\n`);
  const text = Buffer.from(message);
  const head = Buffer.alloc(16);
  head.writeUInt32BE((FRAME | (LEVELS.indexOf(level) << 2)) >>> 0, 0);
  head.writeUInt32BE(text.length, 4);
  head.writeBigUInt64BE(BigInt(Date.now()) * 1000n, 8);
  const frame = Buffer.concat([head, text]);
  for (let at = 0; at < frame.length; ) at += fs.writeSync(logFd, frame, at);
}

function log(level, values) {
  if (LEVELS.indexOf(level) < lowest) return;
  const timestamp = new Date().toISOString();
  if (!isJson) return write(level, `${timestamp}\t${requestId || "undefined"}\t${level}\t${format(...values)}`);
  const error = values.find((value) => value instanceof Error);
  const fields = error === undefined ? {} : described(error);
  const message = values.length === 1 && typeof values[0] === "object" && !error ? values[0] : format(...values);
  const { errorType, errorMessage, trace } = fields;
  write(level, JSON.stringify({ timestamp, level, requestId, message, errorType, errorMessage, stackTrace: trace }));
}

for (const [name, level] of Object.entries({ log: "INFO", info: "INFO", debug: "DEBUG", warn: "WARN", error: "ERROR", trace: "TRACE" })) {
  console[name] = (...values) => log(level, values);
}

// --- the handler ---

async function load(handler) {
  const root = env.LAMBDA_TASK_ROOT;
  const folder = path.dirname(handler);
  const [module, ...names] = path.basename(handler).split(".");
  const base = path.resolve(root, folder, module);
  const file = [".js", ".mjs", ".cjs"].map((suffix) => base + suffix).find((name) => fs.existsSync(name));
  if (file === undefined) {
    throw Object.assign(new Error(`Cannot find module '${module}' in ${path.dirname(base)}`), { name: "Runtime.ImportModuleError" });
  }
  let found;
  try {
    found = file.endsWith(".cjs") ? createRequire(file)(file) : await import(pathToFileURL(file));
  } catch (error) {
    throw Object.assign(error, { name: error instanceof SyntaxError ? "Runtime.UserCodeSyntaxError" : "Runtime.ImportModuleError" });
  }
  const reach = (object) => names.reduce((value, name) => value?.[name], object);
  const wanted = reach(found) ?? reach(found.default);
  if (typeof wanted !== "function") {
    throw Object.assign(new Error(`${handler} is undefined or not exported`), { name: "Runtime.HandlerNotFound" });
  }
  return wanted;
}

globalThis.awslambda = {
  streamifyResponse: (handler) => Object.assign(handler, { [STREAMING]: "response" }),
  // The metadata of an HTTP response, then eight zero bytes, then the body. Source: AWS docs "Response streaming".
  HttpResponseStream: {
    from(stream, metadata) {
      stream.setContentType("application/vnd.awslambda.http-integration-response");
      stream.write(JSON.stringify(metadata));
      stream.write(Buffer.alloc(8));
      return stream;
    },
  },
};

function contextOf(headers) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const json = (name) => (headers[name] ? JSON.parse(headers[name]) : undefined);
  return {
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    callbackWaitsForEmptyEventLoop: true,
    clientContext: json("lambda-runtime-client-context"),
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    identity: json("lambda-runtime-cognito-identity"),
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    tenantId: headers["lambda-runtime-aws-tenant-id"],
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
}

// A handler returns a promise, or calls its third argument.
function answerOf(handler, event, context) {
  return new Promise((resolve, reject) => {
    const done = (error, value) => (error ? reject(error) : resolve(value));
    const result = handler(event, context, done);
    if (typeof result?.then === "function") result.then(resolve, reject);
    else if (handler.length < 3 && result !== undefined) resolve(result);
    else if (handler.length < 3) resolve(null);
  });
}

async function answer(handler, id, event, context) {
  const value = await answerOf(handler, event, context);
  const body = value === undefined ? "null" : JSON.stringify(value);
  await call("POST", `invocation/${id}/response`, { body, headers: { "Content-Type": "application/json" } });
}

// The response begins with the first write, so that an error before it is still an error of the invocation.
async function stream(handler, id, event, context) {
  const body = new PassThrough();
  let contentType = "application/octet-stream";
  let request;
  let answered;
  const begin = () => {
    const headers = {
      "Content-Type": contentType,
      "Lambda-Runtime-Function-Response-Mode": "streaming",
      "Transfer-Encoding": "chunked",
      Trailer: "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
    };
    answered ??= call("POST", `invocation/${id}/response`, { headers, stream: (made) => body.pipe((request = made), { end: false }) });
  };
  const given = new Writable({
    write(chunk, encoding, done) {
      begin();
      if (body.write(chunk, encoding)) done();
      else body.once("drain", done);
    },
    final(done) {
      begin();
      body.end(done);
    },
  });
  given.setContentType = (value) => void (contentType = value);
  const isRead = new Promise((resolve) => body.on("end", resolve));
  try {
    await handler(event, given, context);
    if (!given.writableEnded) given.end();
    await isRead;
  } catch (error) {
    if (answered === undefined) throw error;
    log("ERROR", ["Invoke Error", JSON.stringify(described(error))]);
    const trailer = Buffer.from(JSON.stringify(described(error))).toString("base64");
    request.addTrailers({ "Lambda-Runtime-Function-Error-Type": error.name, "Lambda-Runtime-Function-Error-Body": trailer });
  }
  request.end();
  await answered;
}

async function serve(handler) {
  for (;;) {
    requestId = "";
    const { headers, body } = await call("GET", "invocation/next");
    requestId = headers["lambda-runtime-aws-request-id"];
    const trace = headers["lambda-runtime-trace-id"];
    if (trace) env._X_AMZN_TRACE_ID = trace;
    else delete env._X_AMZN_TRACE_ID;
    try {
      const run = handler[STREAMING] ? stream : answer;
      await run(handler, requestId, JSON.parse(body), contextOf(headers));
    } catch (error) {
      log("ERROR", ["Invoke Error", JSON.stringify(described(error))]);
      await report(`invocation/${requestId}/error`, error, error?.name ?? "Error");
    }
  }
}

// What nobody caught ends the runtime, as on Lambda, after the caller was told.
async function end(what, error, code) {
  log("ERROR", [what, JSON.stringify(described(error))]);
  if (requestId) await report(`invocation/${requestId}/error`, error, error?.name ?? "Error");
  process.exit(code);
}
process.on("uncaughtException", (error) => void end("Uncaught Exception", error, 129));
process.on("unhandledRejection", (reason) => {
  const error = Object.assign(new Error(String(reason)), { name: "Runtime.UnhandledPromiseRejection" });
  void end("Unhandled Promise Rejection", error, 128);
});

let handler;
try {
  handler = await load(env._HANDLER);
} catch (error) {
  log("ERROR", ["Uncaught Exception", JSON.stringify(described(error))]);
  await report("init/error", error, error.name);
  process.exit(1);
}
await serve(handler);
