// Reads JSON objects of the Prometheus operator, one a line; fails with what is wrong.
import { readFileSync } from "node:fs";

for (const line of readFileSync(0, "utf8").trim().split("\n")) {
  const object = JSON.parse(line);
  const place = `@kubernetes-models/prometheus-operator/${object.apiVersion}`;
  const { [object.kind]: Model } = await import(`${place}/${object.kind}`);
  new Model(object).validate();
}
