// Search also where the pages are opened as files: browsers start no workers there, so a hidden frame does their work.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = `<script src="${url}"></script>`;
      this.frame.addEventListener("load", () => this.begin(), { once: true });
      document.body.append(this.frame);
    }

    begin() {
      this.frame.contentWindow.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      for (const data of this.waiting.splice(0)) this.deliver(data);
      this.begun = true;
    }

    deliver(data) {
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }

    postMessage(data) {
      if (this.begun) this.deliver(data);
      else this.waiting.push(data);
    }
  };
}
