// A sample function: {"lines": 3} writes text lines, {"json": 3} JSON lines, {"fail": true} throws.

export const handler = async (event, context) => {
  for (let number = 0; number < (event.lines ?? 1); number++) {
    console.log(`line ${number}: by way of the console`);
    process.stdout.write(`line ${number}: straight to standard output\n`);
  }
  for (let number = 0; number < (event.json ?? 1); number++) {
    const order = { id: number, total: 9.5 * number };
    process.stdout.write(`${JSON.stringify({ level: "INFO", message: "order placed", order })}\n`);
  }
  if (event.fail) {
    throw new Error("asked to fail");
  }
  return { requestId: context.awsRequestId };
};
