// A function that asks localhost for a parameter, as the tutorials do: no SDK, no token, no dependency.

const port = process.env.PARAMETERS_SECRETS_EXTENSION_HTTP_PORT ?? "2773";

async function parameter(name) {
  const answer = await fetch(`http://localhost:${port}/?name=${encodeURIComponent(name)}`);
  if (!answer.ok) throw new Error(`${answer.status}: ${(await answer.json()).error}`);
  return (await answer.json()).value;
}

// In the first line of the function's own init: the answer waits until the extension has it.
const passwordAtStart = await parameter(process.env.PARAMETER_NAME);

export const handler = async () => {
  const password = await parameter(process.env.PARAMETER_NAME);
  return { characters: password.length, changed: password !== passwordAtStart };
};
