// {"fail": true} throws; anything else is given back.

export const handler = async (event, context) => {
  console.log(`handling ${context.awsRequestId}`);
  if (event.fail) {
    throw new TypeError("asked to fail");
  }
  return { echo: event, node: process.version };
};
