document.body.dataset.here = "";
