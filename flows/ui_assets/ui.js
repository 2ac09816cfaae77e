"use strict";
// Small helps for the keyboard and the pointer; every page works without them.
for (const form of document.querySelectorAll("form[data-submit]")) {
  form.addEventListener("change", (event) => event.target.matches("select") && form.requestSubmit());
  // Nothing that was not asked for goes into the address.
  form.addEventListener("formdata", ({ formData }) => {
    for (const [name, value] of [...formData]) if (!value) formData.delete(name);
  });
}

addEventListener("keydown", (event) => {
  const find = document.getElementById("find");
  if (event.key !== "/" || !find || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) return;
  event.preventDefault();
  find.focus();
  find.select();
});
