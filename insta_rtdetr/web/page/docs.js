// Shows openapi.json: endpoints with their parameters and answers, and the types of the answers.

function element(tag, text = "", ...children) {
  const made = document.createElement(tag);
  made.textContent = text;
  made.append(...children);
  return made;
}

function typeName(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeName).join(" or ");
  if (schema.type === "array") return `list of ${typeName(schema.items)}`;
  return schema.type ?? "anything";
}

function table(rows) {
  return element("table", "", ...rows.map((cells) => element("tr", "", ...cells.map((cell) => element("td", cell)))));
}

function limits(schema) {
  const parts = [["minimum", "from"], ["maximum", "to"], ["maxLength", "characters at most:"], ["default", "default"]];
  return parts.filter(([key]) => schema[key] !== undefined).map(([key, word]) => `${word} ${schema[key]}`).join(", ");
}

function endpoint(path, method, operation) {
  const rows = (operation.parameters ?? []).map((parameter) => [
    parameter.name, typeName(parameter.schema), limits(parameter.schema), parameter.description ?? ""]);
  if (operation.requestBody) rows.push(["body", Object.keys(operation.requestBody.content).join(", "), "", "the file"]);
  const answers = Object.entries(operation.responses).map(([status, response]) => {
    const content = Object.values(response.content ?? {})[0];
    return [status, typeName(content?.schema), response.description];
  });
  return element("section", "", element("h2", `${method.toUpperCase()} ${path}`),
    element("p", operation.description ?? ""), table(rows), element("h3", "Answers"), table(answers));
}

function type(name, schema) {
  const rows = Object.entries(schema.properties ?? {}).map(
    ([key, property]) => [key, typeName(property), property.description ?? ""]);
  return element("section", "", element("h3", name), element("p", schema.description ?? ""), table(rows));
}

const description = await (await fetch("openapi.json")).json();
document.getElementById("curl").textContent =
  `curl --data-binary @photo.jpg "${new URL("api/predict?threshold=0.5", location.href)}"`;
for (const [path, operations] of Object.entries(description.paths)) {
  for (const [method, operation] of Object.entries(operations)) {
    document.getElementById("endpoints").append(endpoint(path, method, operation));
  }
}
for (const [name, schema] of Object.entries(description.components.schemas)) {
  if (!/ValidationError$/.test(name)) document.getElementById("types").append(type(name, schema));
}
