// Imports a file, lists, and cancels a schedule, with the types that openapi-typescript made.
//
// Arguments: the gateway's address, the CSV file, and a JSON object with the fields of a schedule.
// The API key is in PINFLOW_API_KEY. Prints what it saw as JSON.

import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./pinflow.js";

type ImportJob = components["schemas"]["ImportJobResponse"];
type Row = components["schemas"]["RowResultResponse"];
type Schedule = components["schemas"]["ScheduleResponse"];

const [baseUrl, path, schedule] = process.argv.slice(2);
if (baseUrl === undefined || path === undefined || schedule === undefined) {
  throw new Error("usage: use_client.js URL FILE SCHEDULE");
}
const client = createClient<paths>({
  baseUrl,
  headers: { "X-API-Key": process.env["PINFLOW_API_KEY"] ?? "" },
});

function unwrap<T>(answer: { data?: T; error?: components["schemas"]["ErrorResponse"] }): T {
  if (answer.data === undefined) {
    throw new Error(answer.error?.detail.message ?? "no answer");
  }
  return answer.data;
}

const answer = unwrap(
  await client.POST("/v1/pins/imports/csv", {
    body: { file: await readFile(path, "utf-8") },
    bodySerializer: ({ file }) => {
      const form = new FormData();
      form.append("file", new Blob([file], { type: "text/csv" }), "campaign.csv");
      return form;
    },
  }),
);
if (!("id" in answer)) {
  throw new Error("Only a dry run has no job, and this is none.");
}
const accepted = answer;
const job: ImportJob = unwrap(
  await client.GET("/v1/pins/imports/{job_id}", {
    params: { path: { job_id: accepted.id }, header: { Prefer: "wait=30" } },
  }),
);
const jobs: ImportJob[] = unwrap(
  await client.GET("/v1/pins/imports", { params: { query: { limit: 10 } } }),
);
const body: components["schemas"]["ScheduleSubmission"] = JSON.parse(schedule);
const created: Schedule = unwrap(await client.POST("/v1/schedules", { body }));
const waiting: Schedule[] = unwrap(await client.GET("/v1/schedules"));
const canceled: Schedule = unwrap(
  await client.POST("/v1/schedules/{schedule_id}/cancel", {
    params: { path: { schedule_id: created.id } },
  }),
);
console.log(
  JSON.stringify({
    status: job.status,
    rows: job.results.map((row: Row) => row.status),
    imports: jobs.map((item) => item.id === accepted.id),
    schedules: waiting.map((item) => item.id === created.id),
    canceled: canceled.status,
  }),
);
